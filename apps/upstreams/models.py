"""The LLM servers, and the models that each was found to serve."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models, transaction

from apps.core import secrets
from apps.core.audit import audited
from apps.core.models import ConfigModel


def _usd_per_million(name: str, *, help_text: str = "USD per million tokens.", **options: Any) -> Any:
    return models.DecimalField(
        name, max_digits=12, decimal_places=6, validators=[MinValueValidator(0)], help_text=help_text, **options
    )


class Kind(models.TextChoices):
    OPENAI = "openai", "OpenAI"
    OLLAMA = "ollama", "Ollama"
    LM_STUDIO = "lm_studio", "LM Studio"
    VLLM = "vllm", "vLLM"
    LLAMA_CPP = "llama_cpp", "llama.cpp server"
    OTHER = "other", "Other OpenAI-compatible server"
    DEMO = "demo", "Built-in demo (no LLM)"


@audited(
    without=["models_read_at", "last_error", "last_error_code", "asked_at", "answered_at"], secret=["encrypted_secret"]
)
class Upstream(ConfigModel):
    """An LLM server that speaks OpenAI's chat completions, and perhaps its Responses API."""

    slug = models.CharField(
        "name",
        max_length=40,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9._-]*$", "Lower-case letters, digits, dots, dashes; no spaces.")],
        help_text="Short name, such as openai or gpu-box; a module reaches its models as name/model.",
    )
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.OTHER)
    base_url = models.CharField(  # not a URLField, which refuses the host names of a compose network
        "base URL",
        max_length=500,
        blank=True,
        validators=[RegexValidator(r"^https?://[^/\s]+", "A base URL looks like http://127.0.0.1:11434/v1.")],
        help_text="With its version, such as http://127.0.0.1:11434/v1. Empty for the demo.",
    )
    encrypted_secret = models.TextField(blank=True, editable=False)
    default_model = models.CharField(
        max_length=200, blank=True, help_text="Used by agents that name no model, or one that no upstream has."
    )
    is_default = models.BooleanField(
        "default upstream", default=False, help_text="Serves agents whose model no upstream is known to have."
    )
    enabled = models.BooleanField(default=True)

    connect_timeout = models.FloatField(default=5, validators=[MinValueValidator(0.1)], help_text="Seconds.")
    first_event_timeout = models.FloatField(
        default=120, validators=[MinValueValidator(0.1)], help_text="Seconds until the answer begins."
    )
    silence_timeout = models.FloatField(
        default=60, validators=[MinValueValidator(0.1)], help_text="Seconds of silence in mid-answer."
    )

    speaks_responses = models.BooleanField(
        "has the Responses API",
        default=False,
        help_text="Agents with hosted tools (web search, code interpreter and the like) or prompt= run here. "
        "Switch it on only where the server itself runs those tools, as OpenAI does.",
    )
    takes_reasoning_effort = models.BooleanField("takes reasoning_effort", default=True)
    takes_verbosity = models.BooleanField("takes verbosity", default=True)
    takes_strict = models.BooleanField("takes strict tool schemas", default=True)
    takes_parallel_tool_calls = models.BooleanField("takes parallel_tool_calls", default=True)
    takes_developer_role = models.BooleanField("takes the developer role", default=True)
    takes_several_system_messages = models.BooleanField("takes several system messages", default=True)

    lists_models = models.BooleanField(
        "lists its models",
        default=True,
        help_text="Off for servers without GET /models, such as transformers serve: then any answer of theirs counts "
        "as a sign of life, and the default model is yours to name.",
    )
    exposes_models = models.BooleanField(
        "offers its models to clients",
        default=False,
        help_text="Its models appear in /v1/models as name/model, for the keys whose grants cover them.",
    )
    max_concurrency = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Calls at once in one worker. Empty: any."
    )
    queue_size = models.PositiveIntegerField(
        default=100, help_text="Calls that may wait for their turn; further ones are refused with 429."
    )
    queue_timeout = models.FloatField(
        default=30, validators=[MinValueValidator(0)], help_text="Seconds that a call waits for its turn at most."
    )
    retries = models.PositiveIntegerField(
        default=1, help_text="Further attempts here after a failure, where nothing has been answered yet."
    )
    cooldown = models.FloatField(
        default=15,
        validators=[MinValueValidator(0)],
        help_text="Seconds for which it is passed over after repeated failures, if another one can answer.",
    )

    # What was observed of it, by whichever process asked last. `asked_at` is set before the question, so that of
    # several workers one asks; `answered_at` and the last error are what came of it.
    models_read_at = models.DateTimeField(null=True, blank=True, editable=False)
    asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    answered_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.TextField(blank=True, editable=False)
    last_error_code = models.CharField(max_length=40, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="one_default_upstream"
            )
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def secret(self) -> str:
        """The API key sent to the server, in the clear. Raises SecretUnreadable."""
        return secrets.decrypt(self.encrypted_secret) if self.encrypted_secret else ""

    @secret.setter
    def secret(self, value: str) -> None:
        self.encrypted_secret = secrets.encrypt(value) if value else ""

    def clean(self) -> None:
        if self.kind != Kind.DEMO and not self.base_url:
            raise ValidationError({"base_url": "An LLM server needs its base URL, such as http://127.0.0.1:11434/v1."})

    def make_default(self) -> None:
        """This one instead of whichever was the default."""
        with transaction.atomic():
            for former in Upstream.objects.filter(is_default=True).exclude(pk=self.pk):
                former.is_default = False
                former.save(update_fields=["is_default"])
            self.is_default = True
            self.save()


class UpstreamHealth(models.Model):
    """How an upstream does in the eyes of one worker, which writes it down for the others (health_rows.py)."""

    worker = models.CharField(max_length=240, help_text="Its host and process.")
    upstream = models.ForeignKey(Upstream, on_delete=models.CASCADE, related_name="health")
    state = models.CharField(max_length=10)
    reason = models.TextField(blank=True)
    since = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="The worker's last sign of life.")
    # Where it may do so many calls at once and no more, as of the last sign of life.
    running = models.PositiveIntegerField(default=0)
    waiting = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["worker"]
        constraints = [models.UniqueConstraint(fields=["worker", "upstream"], name="one_row_per_worker_and_upstream")]

    def __str__(self) -> str:
        return f"{self.upstream_id} is {self.state} for {self.worker}"


@audited()
class ModelPrice(ConfigModel):
    """What a million tokens of a model cost. Limits in USD go by it, and every run records its cost."""

    upstream = models.ForeignKey(
        Upstream,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="prices",
        help_text="Empty: at any upstream.",
    )
    model = models.CharField(
        max_length=200, help_text="A glob over the names of models: * is any text, as in gpt-5* or qwen3:8b."
    )
    prompt_usd = _usd_per_million("prompt")
    cached_usd = _usd_per_million(
        "cached prompt",
        null=True,
        blank=True,
        help_text="USD per million prompt tokens that the server had cached. Empty: as the prompt.",
    )
    completion_usd = _usd_per_million(
        "completion", help_text="USD per million tokens of the answer, with its reasoning."
    )

    class Meta:
        ordering = ["upstream", "model"]
        verbose_name = "price"

    def __str__(self) -> str:
        return f"{self.model} at {self.upstream}" if self.upstream else self.model


class UpstreamModel(ConfigModel):
    """A model that an upstream said it has, when its list was last read."""

    upstream = models.ForeignKey(Upstream, on_delete=models.CASCADE, related_name="models")
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["upstream", "name"], name="one_row_per_upstream_model")]

    def __str__(self) -> str:
        return f"{self.upstream.slug}/{self.name}"


@audited()
class ModelRoute(ConfigModel):
    """Which models of which upstreams answer for a model name, and in what order."""

    pattern = models.CharField(
        "model",
        max_length=200,
        unique=True,
        help_text="A name that agents ask for, or a glob: gpt-4o, gpt-5*. An exact name beats a glob, a longer one "
        "a shorter.",
    )
    enabled = models.BooleanField(default=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["pattern"]
        verbose_name = "route"

    def __str__(self) -> str:
        return self.pattern


@audited()
class RouteTarget(ConfigModel):
    """One choice of a route. All of an order come before those of the next; among them the weights draw lots."""

    route = models.ForeignKey(ModelRoute, on_delete=models.CASCADE, related_name="targets")
    upstream = models.ForeignKey(Upstream, on_delete=models.CASCADE, related_name="+")
    model = models.CharField(
        max_length=200, blank=True, help_text="Of the upstream. Empty: the name that was asked for."
    )
    order = models.PositiveIntegerField(default=1, help_text="1 is tried first.")
    weight = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1)])

    class Meta:
        ordering = ["order", "pk"]
        verbose_name = "choice"

    def __str__(self) -> str:
        return f"{self.upstream.slug}/{self.model or self.route.pattern}"
