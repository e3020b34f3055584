"""All settings, read from the environment (and from `.env` beside manage.py).

Secure without being asked: the secret key is generated into the data folder, DEBUG is off, and naming a public https
URL turns on secure cookies, HSTS and the redirect. What an operator may set is listed in README.md.
"""

import contextlib
import hashlib
import os
import secrets
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import environ

ROOT = Path(__file__).resolve().parent.parent
env = environ.Env()
if (ROOT / ".env").exists():
    environ.Env.read_env(ROOT / ".env")

DEBUG = env.bool("GATEWAY_DEBUG", default=False)

# --- data folder and secrets -----------------------------------------------------------------------------------------


def _data_dir() -> Path:
    folder = Path(env.str("GATEWAY_DATA_DIR", default=str(ROOT / "var"))).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _secret_key(folder: Path) -> str:
    """The installation's one secret: Django signs with it, and upstream secrets are encrypted under it."""
    given: str = env.str("GATEWAY_SECRET_KEY", default="")
    if given:
        return given
    path = folder / "secret_key"
    if not path.exists():
        # Written beside and then linked: of two processes that start together, both read the first one.
        descriptor, temporary = tempfile.mkstemp(dir=folder)  # mode 0600
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(64))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        Path(temporary).unlink()
    return path.read_text().strip()


try:
    DATA_DIR = _data_dir()
    SECRET_KEY = _secret_key(DATA_DIR)
except OSError as error:
    raise SystemExit(
        f"The data folder cannot be used ({error}). Give this user access to it, or name another in GATEWAY_DATA_DIR."
    ) from error

# --- where it is reached ---------------------------------------------------------------------------------------------

GATEWAY_HOST = env.str("GATEWAY_HOST", default="127.0.0.1")
GATEWAY_PORT = env.int("GATEWAY_PORT", default=8000)
GATEWAY_WORKERS = env.int("GATEWAY_WORKERS", default=1)
GATEWAY_PUBLIC_URL = env.str("GATEWAY_PUBLIC_URL", default="").rstrip("/")

_public = urlsplit(GATEWAY_PUBLIC_URL)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.list("GATEWAY_ALLOWED_HOSTS", default=[])]
if _public.hostname:
    ALLOWED_HOSTS.append(_public.hostname)
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"] if _public.netloc else []

BEHIND_TLS = _public.scheme == "https"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SECURE_SSL_REDIRECT = BEHIND_TLS
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = BEHIND_TLS
SECURE_HSTS_PRELOAD = BEHIND_TLS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SESSION_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Browsers that talk to /v1 directly: exact origins only, and never cookies (keys travel in a header).
CORS_ALLOWED_ORIGINS = env.list("GATEWAY_CORS_ORIGINS", default=[])
CORS_URLS_REGEX = r"^/v1/"
CORS_ALLOW_HEADERS = (
    "accept",
    "authorization",
    "content-type",
    "x-api-key",
    "x-request-id",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
    "openai-organization",
    "openai-project",
)
CORS_EXPOSE_HEADERS = [
    "x-request-id",
    "retry-after",
    *(f"x-ratelimit-{told}-{unit}" for unit in ("requests", "tokens") for told in ("limit", "remaining", "reset")),
]

# --- the gateway -----------------------------------------------------------------------------------------------------

GATEWAY_AGENT_DISCOVERY_PATH = [
    ROOT / part  # an absolute part stands for itself
    for part in env.str("GATEWAY_AGENT_DISCOVERY_PATH", default="agents").split(":")
    if part
]
GATEWAY_AGENT_DISCOVERY_ALLOWLIST = env.list("GATEWAY_AGENT_DISCOVERY_ALLOWLIST", default=[])
GATEWAY_AGENT_DISCOVERY_DENYLIST = env.list("GATEWAY_AGENT_DISCOVERY_DENYLIST", default=[])
# Beside what operators set in the admin, and out of its reach.
GATEWAY_AGENT_LOCKED = env.bool("GATEWAY_AGENT_LOCKED", default=False)
GATEWAY_AGENT_DENIED_IMPORTS = env.list("GATEWAY_AGENT_DENIED_IMPORTS", default=[])
GATEWAY_AGENT_AUTO_RELOAD = env.bool("GATEWAY_AGENT_AUTO_RELOAD", default=True)
GATEWAY_AGENT_WATCH = env.bool("GATEWAY_AGENT_WATCH", default=GATEWAY_AGENT_AUTO_RELOAD)
GATEWAY_AGENT_IMPORT_TIMEOUT = env.float("GATEWAY_AGENT_IMPORT_TIMEOUT", default=30.0)  # seconds
GATEWAY_AGENT_DRY_RUN = env.bool("GATEWAY_AGENT_DRY_RUN", default=False)  # as every agent's own setting
GATEWAY_ACCESS_MAX_AGE = env.float("GATEWAY_ACCESS_MAX_AGE", default=30.0)  # seconds without word from the database
GATEWAY_DEFAULT_UPSTREAM = env.str("GATEWAY_DEFAULT_UPSTREAM", default="")
GATEWAY_DEFAULT_MODEL = env.str("GATEWAY_DEFAULT_MODEL", default="")
GATEWAY_UPSTREAM_REFRESH = env.float("GATEWAY_UPSTREAM_REFRESH", default=300.0)  # seconds; 0: nobody is asked
GATEWAY_MAX_BODY_BYTES = env.int("GATEWAY_MAX_BODY_BYTES", default=16 * 1024 * 1024)
GATEWAY_MAX_TURNS = env.int("GATEWAY_MAX_TURNS", default=10)  # as the SDK's own
GATEWAY_APPROVAL_TTL = env.float("GATEWAY_APPROVAL_TTL", default=86_400.0)  # seconds that a run waits for a person
GATEWAY_RUN_TIMEOUT = env.float("GATEWAY_RUN_TIMEOUT", default=900.0)  # seconds
GATEWAY_TOOL_MODULES = env.list("GATEWAY_TOOL_MODULES", default=[])  # globs: whose functions may be tools
GATEWAY_TOOL_HOSTS = env.list("GATEWAY_TOOL_HOSTS", default=[])  # globs; empty: any public host
GATEWAY_MCP_CONNECT_TIMEOUT = env.float("GATEWAY_MCP_CONNECT_TIMEOUT", default=10.0)  # seconds
GATEWAY_MCP_STDIO = env.list("GATEWAY_MCP_STDIO", default=["*"])  # globs over the commands of stdio servers
GATEWAY_VULNERABILITY_URL = env.str("GATEWAY_VULNERABILITY_URL", default="")  # of a service like OSV's; else PyPI
GATEWAY_PROMETHEUS_ENABLED = env.bool("GATEWAY_PROMETHEUS_ENABLED", default=True)
GATEWAY_LOG_LEVEL = env.str("GATEWAY_LOG_LEVEL", default="INFO").upper()
GATEWAY_LOG_LEVELS = env.str("GATEWAY_LOG_LEVELS", default="")  # of loggers: apps.upstreams=DEBUG,openai.agents=INFO
GATEWAY_LOG_FORMAT = env.str("GATEWAY_LOG_FORMAT", default="auto")  # auto | json | console
GATEWAY_LOG_CONTENTS = env.bool("GATEWAY_LOG_CONTENTS", default=False)  # prompts and answers, redacted

# Workers add up their metrics themselves (decision 25); with this the client would do so too, and fail where the folder
# cannot be written.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

# --- Django ----------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    *(["daphne"] if "runserver" in sys.argv[1:2] else []),  # first: its runserver speaks ASGI
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "auditlog",
    "channels",
    "corsheaders",
    "django_celery_beat",
    "django_prometheus",
    "ninja",  # serves the assets of /docs from here instead of a CDN
    "apps.core",
    "apps.observability",
    "apps.access",
    "apps.upstreams",
    "apps.tools",
    "apps.catalog",
    "apps.execution",
    "apps.config_files",
    "apps.audits",
    "apps.openai_api",
    "apps.admin_api",
    "apps.console",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "apps.observability.requests.request_ids",
    "apps.openai_api.errors.operators_errors",
    "django.middleware.security.SecurityMiddleware",
    "apps.console.static_files.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.access.author.author_of_changes",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.observability.request_metrics.DjangoMetrics",
]

# The /v1 road runs on the event loop and takes nothing synchronous (apps/core/loop_handler.py).
LOOP_MIDDLEWARE = [
    "apps.observability.requests.request_log",
    *(["corsheaders.middleware.CorsMiddleware"] if CORS_ALLOWED_ORIGINS else []),
    "apps.openai_api.errors.openai_errors",
]

ROOT_URLCONF = "gateway_site.urls"
ASGI_APPLICATION = "gateway_site.asgi.application"
TASKS_APPLICATION = "gateway_site.celery"  # the module whose Celery application tasks are sent with
APPEND_SLASH = True
LOGIN_REDIRECT_URL = "/admin/"  # whoever opens the login page itself
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'gateway.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # Many readers and one writer: readers never wait (WAL), a writer takes its lock at the start of its transaction
        # instead of failing at the end (IMMEDIATE), and waits up to 20 s for another one.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000;",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["CONN_MAX_AGE"] = 60

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# What several processes count together: limits.
REDIS_URL = env.str("REDIS_URL", default="")

# What the workers tell each other for the live page (apps/console/live/relay.py). Not the layer `default`: each
# consumer would take up a channel of that by itself, and fall when Redis does.
CHANNEL_LAYERS = (
    {
        "workers": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {
                # A worker waits 5 s at once for what the others say.
                "hosts": [{"address": REDIS_URL, "socket_timeout": 10, "socket_connect_timeout": 2}],
                "prefix": f"agent-gateway:{hashlib.sha256(f'live of {SECRET_KEY}'.encode()).hexdigest()[:16]}",
                "symmetric_encryption_keys": [SECRET_KEY],
                "expiry": 20,  # seconds that a message waits for its reader
                "group_expiry": 60,  # seconds; a worker enters again every 20
            },
        }
    }
    if REDIS_URL
    else {}
)

# --- scheduled work, and who is told ---------------------------------------------------------------------------------

# redis:// or amqp://; without either, messages are files of the data folder.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="folder://")
if CELERY_BROKER_URL == "folder://":
    _queue = DATA_DIR / "celery"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_queue / "queue"),  # one for both: whoever reads is no other than whoever writes
        "data_folder_out": str(_queue / "queue"),
        "processed_folder": str(_queue / "taken"),
        "control_folder": str(_queue / "control"),
        "polling_interval": 0.5,  # seconds
    }
# Of several gateways with one broker, each has its own.
CELERY_TASK_DEFAULT_QUEUE = env.str("GATEWAY_QUEUE", default="gateway")
CELERY_RESULT_EXPIRES = None  # otherwise the beat schedules a task that deletes results
CELERY_TASK_IGNORE_RESULT = True  # what came of it is in tables of ours
CELERY_TASK_PUBLISH_RETRY = False  # whoever asks for a task is told that the broker is away, and does without
CELERY_BROKER_CONNECTION_TIMEOUT = 3
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_TIMEZONE = env.str("TZ", default="UTC")
CELERY_ENABLE_UTC = True

EMAIL_URL = env.str("EMAIL_URL", default="")  # such as smtp+tls://user:password@mail.example.com:587
if EMAIL_URL:
    vars().update(env.email_url("EMAIL_URL"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("GATEWAY_EMAIL_FROM", default="agent-gateway@localhost")

LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "gateway_site.formats"
TIME_ZONE = env.str("TZ", default="UTC")
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [ROOT / "static"]
WHITENOISE_USE_FINDERS = True  # no collectstatic step: the assets are served from where they are installed
WHITENOISE_AUTOREFRESH = False

AUDITLOG_STORE_JSON_CHANGES = True  # true and ["10.0.0.0/8"], not "True" and "[...]"
AUDITLOG_USE_FK_STRING_REPRESENTATION = True  # "Blue team", not 3

LOGGING_CONFIG = "apps.observability.logs.configure_logging"
LOGGING = {"level": GATEWAY_LOG_LEVEL, "levels": GATEWAY_LOG_LEVELS, "format": GATEWAY_LOG_FORMAT}

# --- the console -----------------------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Agent Gateway",
    "SITE_HEADER": "Agent Gateway",
    "SITE_SUBHEADER": "Operators' console",
    "SITE_URL": None,  # there is no other site to go back to
    "SITE_ICON": f"{STATIC_URL}console/icon.svg",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}console/icon.svg"}],
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "SCRIPTS": [f"{STATIC_URL}console/copy.js", f"{STATIC_URL}console/names.js"],
    "STYLES": [f"{STATIC_URL}console/console.css"],
    "DASHBOARD_CALLBACK": "apps.console.dashboard.dashboard",
    "LOGIN": {"form": "apps.console.login.LoginForm"},
    "SIDEBAR": {"navigation": "apps.console.navigation.navigation"},
    "COLORS": {
        "primary": {  # a calm blue-green, readable on white and on black
            "50": "oklch(98.4% .014 180.7)",
            "100": "oklch(95.3% .051 180.8)",
            "200": "oklch(91% .096 180.4)",
            "300": "oklch(85.5% .138 181.1)",
            "400": "oklch(77.7% .152 181.9)",
            "500": "oklch(70.4% .14 182.5)",
            "600": "oklch(51.1% .096 186.4)",
            "700": "oklch(43.7% .078 188.2)",
            "800": "oklch(38.6% .063 188.4)",
            "900": "oklch(33% .055 189)",
            "950": "oklch(27.7% .046 192.5)",
        },
    },
}

# An agent without a model must not carry the SDK's gpt-5 settings (reasoning effort, verbosity) to a local server. The
# SDK reads this name whenever an Agent is built; it is never sent anywhere, because the gateway resolves "no model".
os.environ.setdefault("OPENAI_DEFAULT_MODEL", "gateway-default")

# As in an activated virtual environment: what a drop-in starts by the name of `python`, such as an MCP server, is the
# Python that has the gateway's packages.
_bin = str(Path(sys.executable).parent)
if not os.environ.get("PATH", "").startswith(f"{_bin}{os.pathsep}"):
    os.environ["PATH"] = os.pathsep.join([_bin, os.environ.get("PATH", os.defpath)])
