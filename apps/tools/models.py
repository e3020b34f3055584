"""The tools that the gateway owns and lends to any agent, and the MCP servers that some of them come from."""

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

from apps.core import secrets
from apps.core.audit import audited
from apps.core.models import ConfigModel

# What OpenAI takes as the name of a function, https://platform.openai.com/docs/api-reference/chat/create
_NAME = RegexValidator(r"^[a-zA-Z0-9_-]{1,64}$", "Letters, digits, _ and -; at most 64.")
_SLUG = RegexValidator(r"^[a-z0-9][a-z0-9_-]{0,31}$", "Lower-case letters, digits, _ and -; at most 32.")


class Kind(models.TextChoices):
    LOCAL = "local", "Python function"
    HTTP = "http", "HTTP request"
    MCP = "mcp", "MCP server"


class Method(models.TextChoices):
    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class Transport(models.TextChoices):
    HTTP = "http", "Streamable HTTP"
    SSE = "sse", "HTTP with server-sent events (before 2025)"
    STDIO = "stdio", "A process of this machine (stdio)"
    GATEWAY = "mcp_gateway", "Microsoft's mcp-gateway"


class _WithSecrets(models.Model):
    """HTTP headers; those that are secret are encrypted, and shown nowhere."""

    headers = models.JSONField(default=dict, blank=True, help_text='Sent with every request: {"Accept-Language": "en"}')
    encrypted_headers = models.TextField(blank=True, editable=False)

    class Meta:
        abstract = True

    @property
    def secret_headers(self) -> dict[str, str]:
        """In the clear. Raises SecretUnreadable."""
        return secrets.decrypt_json(self.encrypted_headers) if self.encrypted_headers else {}

    @secret_headers.setter
    def secret_headers(self, value: dict[str, str]) -> None:
        self.encrypted_headers = secrets.encrypt_json(value) if value else ""


@audited(
    without=["state", "reason", "state_since", "protocol", "checked_at", "gone_at", "renewed_at"],
    secret=["encrypted_headers", "encrypted_environment", "encrypted_oauth"],
)
class McpServer(_WithSecrets, ConfigModel):
    """A server whose tools the gateway lends. Every tool that it lists has a Tool row."""

    slug = models.CharField(
        "name", max_length=32, unique=True, validators=[_SLUG], help_text="Its tools are called name_tool."
    )
    transport = models.CharField(max_length=12, choices=Transport, default=Transport.HTTP)
    url = models.CharField(
        "URL",
        max_length=500,
        blank=True,
        validators=[RegexValidator(r"^https?://[^/\s]+", "A URL looks like https://mcp.example.com/mcp.")],
    )
    command = models.JSONField(
        default=list,
        blank=True,
        help_text='Of a stdio server, as a list: ["npx", "-y", "@modelcontextprotocol/server-everything"]. Superusers '
        "only: it runs on this machine as the gateway's user.",
    )
    encrypted_environment = models.TextField(blank=True, editable=False)  # of the stdio process
    encrypted_oauth = models.TextField(blank=True, editable=False)  # client credentials, JSON
    enabled = models.BooleanField(default=True)
    allowed_tools = models.JSONField(
        default=list, blank=True, help_text='Globs over the names that the server lists: ["read_*"]. Empty: all.'
    )
    timeout = models.FloatField(default=60, validators=[MinValueValidator(0.1)], help_text="Seconds for a call.")
    max_concurrency = models.PositiveIntegerField(default=8, validators=[MinValueValidator(1)], help_text="Calls.")
    parent = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.CASCADE,
        related_name="adapters",
        help_text="The mcp-gateway that has it as an adapter.",
    )
    gone_at = models.DateTimeField(null=True, blank=True, editable=False)  # when its mcp-gateway ceased to list it
    renewed_at = models.DateTimeField(null=True, blank=True, editable=False)  # when all workers had to connect anew

    # What was observed; unpublished, except for the tools' rows.
    state = models.CharField(max_length=12, blank=True, editable=False)  # "", connected, connecting, down
    reason = models.TextField(blank=True, editable=False)
    state_since = models.DateTimeField(null=True, blank=True, editable=False)
    protocol = models.CharField(max_length=20, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]
        verbose_name = "MCP server"

    def __str__(self) -> str:
        return self.slug

    @property
    def environment(self) -> dict[str, str]:
        """In the clear. Raises SecretUnreadable."""
        return secrets.decrypt_json(self.encrypted_environment) if self.encrypted_environment else {}

    @environment.setter
    def environment(self, value: dict[str, str]) -> None:
        self.encrypted_environment = secrets.encrypt_json(value) if value else ""

    @property
    def oauth(self) -> dict[str, str]:
        """client_id, client_secret, token_url or issuer, and scope where set; in the clear. Raises SecretUnreadable."""
        return secrets.decrypt_json(self.encrypted_oauth) if self.encrypted_oauth else {}

    @oauth.setter
    def oauth(self, value: dict[str, str]) -> None:
        self.encrypted_oauth = secrets.encrypt_json(value) if value else ""

    def clean(self) -> None:
        if self.transport == Transport.STDIO:
            if not self.command or not all(isinstance(one, str) for one in self.command):
                raise ValidationError({"command": 'A stdio server needs its command, as a list: ["python", "x.py"].'})
        elif not self.url:
            raise ValidationError({"url": "The server needs its URL, such as https://mcp.example.com/mcp."})


@audited(without=["gone_at"], secret=["encrypted_headers"])
class Tool(_WithSecrets, ConfigModel):
    """A callable that agents are lent. Which fields count depends on its kind."""

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[_NAME],
        help_text="What models and agents call it.",
    )
    kind = models.CharField(max_length=5, choices=Kind, default=Kind.HTTP)
    description = models.TextField(blank=True, help_text="What models are told. Empty: the function's or server's.")
    enabled = models.BooleanField(default=True)
    parameters = models.JSONField(
        default=dict, blank=True, help_text="JSON schema of its arguments. A function's is read from its signature."
    )

    # local
    function = models.CharField(
        max_length=300,
        blank=True,
        help_text="Dotted path of a function in an allowed module: my_tools.forecast",
    )

    # http
    method = models.CharField(max_length=6, choices=Method, default=Method.GET)
    url = models.CharField(
        "URL template",
        max_length=1000,
        blank=True,
        help_text="With arguments in braces: https://api.example.com/items/{id}?q={query}",
    )
    body = models.JSONField(
        null=True,
        blank=True,
        help_text='What is sent, with arguments in braces: {"text": "{text}"}. Empty: what the URL does not use.',
    )
    extract = models.CharField(
        max_length=500, blank=True, help_text="JMESPath of what the model is given of a JSON answer: items[].title"
    )
    allow_private_hosts = models.BooleanField(
        default=False, help_text="Lets it ask hosts of private networks and of this machine."
    )

    # mcp
    server = models.ForeignKey(McpServer, null=True, blank=True, on_delete=models.CASCADE, related_name="tools")
    remote_name = models.CharField(max_length=200, blank=True, help_text="What the server calls it.")
    gone_at = models.DateTimeField(null=True, blank=True, editable=False)  # when the server ceased to list it

    # how it may be used
    needs_approval = models.BooleanField(default=False, help_text="A person has to approve every call.")
    is_idempotent = models.BooleanField(
        "may be repeated", default=False, help_text="A call that failed may be tried again: it changes nothing."
    )
    retries = models.PositiveIntegerField(default=2, help_text="Of calls that may be repeated.")
    cache_seconds = models.FloatField(
        default=0,
        validators=[MinValueValidator(0)],
        help_text="For so long equal calls get the same answer; 0: never.",
    )
    max_calls_per_run = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: any number.")
    timeout = models.FloatField(default=30, validators=[MinValueValidator(0.1)], help_text="Seconds.")
    max_concurrency = models.PositiveIntegerField(
        default=16, validators=[MinValueValidator(1)], help_text="Calls at once in one worker; further ones wait."
    )
    max_output_bytes = models.PositiveIntegerField(
        default=65_536, validators=[MinValueValidator(100)], help_text="A longer answer is cut, and says so."
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Reads the schema of a function, and makes the one of a URL template that was given none."""
        from apps.tools.checking import complete, problems

        if found := problems(self):
            raise ValidationError(found)
        complete(self)

    def source(self) -> str:
        """The dotted name that rules about tools are written for: docs/tool-access.md."""
        if self.kind == Kind.LOCAL:
            return f"gateway.local.{self.function.rpartition('.')[0]}"
        return f"gateway.mcp.{self.server.slug}" if self.server else "gateway.http"
