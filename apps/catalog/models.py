"""What discovery found (DropIn, Diagnostic, AgentVersion, ServingWorker: state, written by the workers) and what
operators set (AgentSettings, Namespace, DeclaredAgent with its versions, PinnedVersion, ModuleRule, ModulePolicy,
ApprovedVersion)."""

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import F

from apps.core.audit import audited, author
from apps.core.models import ConfigModel, ConfigRow
from apps.upstreams.models import Upstream

SHORT = 12  # hexadecimal digits of a digest that people are shown
LONGEST_RUN = 86_400  # seconds that an agent may be given for one

# Of agent ids: as scan.agent_id makes them of folders.
_WORD = RegexValidator(r"^[a-z0-9][a-z0-9._-]*$", "Lower-case letters, digits, dots, dashes; no spaces.")


class State(models.TextChoices):
    LIVE = "live", "Live"
    STALE = "stale", "Last good version"  # the newest edit does not load; the version before it serves
    BROKEN = "broken", "Broken"  # no version loads
    DENIED = "denied", "Denied"  # a rule keeps its folder out
    GONE = "gone", "Gone"  # its folder was removed


class DropIn(models.Model):
    """One agent of the discovery folders. Rows outlive their folder: settings hang on them."""

    agent_id = models.CharField("id", max_length=200, unique=True)
    folder = models.CharField(max_length=500)
    folder_id = models.CharField(
        max_length=200, blank=True, db_index=True, help_text="Agents that one folder publishes have this in common."
    )
    name = models.CharField(max_length=200, blank=True, help_text="The SDK agent's own name.")
    description = models.TextField(blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.BROKEN)
    export = models.CharField(max_length=20, blank=True, help_text="What the module exports: agent, factory, workflow.")
    model = models.CharField(max_length=200, blank=True, help_text="The model that the module asks for.")
    tools = models.JSONField(default=list, blank=True)
    handoffs = models.JSONField(default=list, blank=True)
    graph = models.JSONField(
        default=list,
        blank=True,
        help_text="Its agents, the entry first: name, model, tools, mcp_servers, edges (kind, name, target).",
    )
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 over the folder that serves.")
    disk_digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 over the folder as it lies there.")
    loaded_at = models.DateTimeField(null=True, blank=True, help_text="Since when this version serves.")

    class Meta:
        ordering = ["agent_id"]
        verbose_name = "agent"

    def __str__(self) -> str:
        return self.agent_id


class RunSettings(models.Model):
    """How an agent is run, whoever wrote it."""

    class Disconnect(models.TextChoices):
        CANCEL = "cancel", "Stop the run"
        DRAIN = "drain", "Let the run finish"

    upstream = models.ForeignKey(
        Upstream,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Empty: whichever has the model.",
    )
    model = models.CharField(
        max_length=200, blank=True, help_text="A model, or a name that a route is for. Empty: what is the default."
    )
    parameters = models.JSONField(
        default=dict,
        blank=True,
        help_text='Parameters of the model, unless a request says otherwise: {"temperature": 0.2, "max_tokens": 800}',
    )
    max_turns = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Model calls of a run at most. Empty: GATEWAY_MAX_TURNS.",
    )
    run_timeout = models.FloatField(
        null=True,
        blank=True,
        validators=[
            MinValueValidator(1),
            MaxValueValidator(LONGEST_RUN, f"A run has {LONGEST_RUN:,} seconds at most, a day."),
        ],
        help_text=f"Seconds for a whole run, {LONGEST_RUN:,} at most. Empty: GATEWAY_RUN_TIMEOUT.",
    )
    on_disconnect = models.CharField(
        "when the client leaves", max_length=6, choices=Disconnect, default=Disconnect.CANCEL
    )
    listed = models.BooleanField(
        default=True, help_text="Off: not among the models that chat UIs show, but answers to who knows its name."
    )

    class Meta:
        abstract = True


@audited()
class Namespace(ConfigModel):
    """The first part of agents' ids, and what answers for its agents that name no model which an upstream has."""

    name = models.CharField(max_length=100, unique=True, validators=[_WORD])
    description = models.CharField(max_length=300, blank=True)
    upstream = models.ForeignKey(
        Upstream, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", verbose_name="default upstream"
    )
    model = models.CharField("default model", max_length=200, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


@audited(without=["created_at", "changed_at"])
class DeclaredAgent(RunSettings, ConfigModel):
    """An agent that an operator defines, with no code: instructions, a model, tools of the gateway."""

    class Stage(models.TextChoices):
        DRAFT = "draft", "Draft"  # to be tried from its page
        LIVE = "live", "Live"
        DISABLED = "disabled", "Disabled"

    class ToolChoice(models.TextChoices):
        AUTO = "auto", "The model chooses"
        REQUIRED = "required", "At least one, before the first answer"
        NONE = "none", "No tools"

    namespace = models.CharField(
        max_length=100, default="default", validators=[_WORD], help_text="The first part of its id."
    )
    name = models.CharField(max_length=80, validators=[_WORD], help_text="The second part of its id: default/helpdesk.")
    title = models.CharField(max_length=200, blank=True, help_text="What chat UIs show. Empty: the name.")
    description = models.TextField(blank=True)
    instructions = models.TextField(
        blank=True,
        help_text="The system message. {{date}}, {{time}}, {{weekday}}, {{user}}, {{user_email}} and {{agent}} are "
        "filled in.",
    )
    tools = models.JSONField(
        default=list, blank=True, help_text='Names of tools, or globs over them: ["search", "github_*"].'
    )
    tool_choice = models.CharField(
        max_length=64, default=ToolChoice.AUTO, help_text="auto, required, none, or the name of one of its tools."
    )
    parallel_tool_calls = models.BooleanField(null=True, blank=True, help_text="Unknown: as the server does.")
    response_format = models.JSONField(
        null=True, blank=True, help_text="As OpenAI has it: a JSON schema that every answer follows."
    )
    greeting = models.TextField(blank=True, help_text="Shown by chat UIs that show one, before the first message.")
    icon = models.CharField(max_length=500, blank=True, help_text="An emoji, or the URL of a picture.")
    tags = models.JSONField(default=list, blank=True)
    aliases = models.JSONField(default=list, blank=True, help_text="Further model names it answers to.")
    stage = models.CharField(max_length=8, choices=Stage, default=Stage.DRAFT)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["namespace", "name"]
        verbose_name = "declared agent"
        constraints = [
            models.UniqueConstraint(
                fields=["namespace", "name"],
                name="one_declared_agent_per_id",
                violation_error_message="There is a declared agent of this id already.",
            )
        ]

    def __str__(self) -> str:
        return self.agent_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Keeps a version, whoever saves, unless nothing has changed since the last one."""
        with transaction.atomic():
            super().save(*args, **kwargs)
            DeclaredVersion.keep(self)

    @property
    def agent_id(self) -> str:
        return f"{self.namespace}/{self.name}"

    def values(self) -> dict[str, Any]:
        """All that operators set, as JSON."""
        fields = (one for one in self._meta.concrete_fields if one.name not in _NOT_OF_A_VERSION)  # its own
        values = {one.name: one.value_from_object(self) for one in fields}
        return {**values, "upstream": self.upstream.slug if self.upstream else ""}


_NOT_OF_A_VERSION = frozenset({"id", "created_at", "changed_at"})


class DeclaredVersion(models.Model):
    """What a declared agent was after a change, to be looked at and returned to."""

    MOST = 200  # of one agent; the oldest go

    agent = models.ForeignKey(DeclaredAgent, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    values = models.JSONField(help_text="Of DeclaredAgent.values(): an upstream by its name.")
    author = models.CharField(max_length=150)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["agent", "number"], name="one_declared_version_per_number")]

    def __str__(self) -> str:
        return f"{self.agent} {self.number}"

    @classmethod
    def keep(cls, agent: DeclaredAgent) -> None:
        """Call inside the transaction of the change: its number of the configuration orders concurrent ones."""
        last = cls.objects.filter(agent=agent).first()
        values = DeclaredAgent.objects.select_related("upstream").get(pk=agent.pk).values()
        if last and last.values == values:
            return
        number = last.number + 1 if last else 1
        cls.objects.create(agent=agent, number=number, values=values, author=author().name[:150])
        cls.objects.filter(agent=agent, number__lte=number - cls.MOST).delete()


@audited()
class AgentSettings(RunSettings, ConfigModel):
    """What operators decide about an agent without touching its code."""

    drop_in = models.OneToOneField(DropIn, on_delete=models.CASCADE, related_name="settings")
    enabled = models.BooleanField(default=True, help_text="Disabled: not listed, and a chat with it is refused.")
    aliases = models.JSONField(
        default=list, blank=True, help_text='Further model names it answers to, as a list: ["helpdesk"].'
    )
    dry_run = models.BooleanField(
        "run main() to find it",
        default=False,
        help_text="For a module that builds its agent inside main(): calls main() when it is loaded, with no model to "
        "talk to, and takes the agent that it wants to run. What main() does before that really happens.",
    )
    build_per_run = models.BooleanField(
        "build for every run", default=False, help_text="Calls the module's factory for every run, not once at load."
    )
    own_client = models.BooleanField(
        "use the module's own client",
        default=False,
        help_text="Its models go to the client that the module sets with set_default_openai_client(), past the "
        "gateway's upstreams.",
    )

    class Meta:
        verbose_name = verbose_name_plural = "settings"

    def __str__(self) -> str:
        return f"settings of {self.drop_in}"


class AgentVersion(models.Model):
    """A version of a folder that loaded, with its files, so that an operator can put it back."""

    folder_id = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="SHA-256 over the folder.")
    archive = models.BinaryField(null=True, help_text="A gzipped tar; null when the folder is too large to be kept.")
    size = models.PositiveBigIntegerField(help_text="Bytes of all files together.")
    file_count = models.PositiveIntegerField()
    first_loaded_at = models.DateTimeField(null=True, help_text="Null when it was approved, and has not loaded yet.")
    last_loaded_at = models.DateTimeField(help_text="Later than the first time when the folder came back to it.")

    class Meta:
        ordering = [F("first_loaded_at").desc(nulls_first=True), "-pk"]
        constraints = [models.UniqueConstraint(fields=["folder_id", "digest"], name="one_row_per_version")]

    def __str__(self) -> str:
        return f"{self.folder_id} {self.short}"

    @property
    def short(self) -> str:
        return self.digest[:SHORT]


@audited(without=["pinned_at"])
class PinnedVersion(ConfigModel):
    """A former version that an operator put back: it serves in place of what lies in the folder."""

    folder_id = models.CharField(max_length=200, unique=True)
    digest = models.CharField(max_length=64)
    pinned_at = models.DateTimeField(auto_now=True)
    pinned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    def __str__(self) -> str:
        return f"{self.folder_id} {self.short}"

    @property
    def short(self) -> str:
        return self.digest[:SHORT]


class Effect(models.TextChoices):
    ALLOW = "allow", "Allow"
    DENY = "deny", "Deny"


@audited(without=["created_by", "created_at"])
class ModuleRule(ConfigModel):
    """Lets the folders load whose ids fit, or keeps them out. Among those that fit the most specific one decides."""

    effect = models.CharField(max_length=5, choices=Effect, default=Effect.DENY)
    pattern = models.CharField(
        "agents",
        max_length=200,
        unique=True,
        help_text="A folder's id or a glob over ids: labs/*, *planner*. A star is any run of characters, slashes too; "
        "case does not count.",
    )
    reason = models.CharField(max_length=300, blank=True, help_text="Shown wherever the rule keeps a folder out.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pattern"]
        verbose_name = "module rule"

    def __str__(self) -> str:
        return f"{self.effect} {self.pattern}"


@audited()
class ModulePolicy(ConfigRow):
    """What holds for the folders that may load at all."""

    locked = models.BooleanField(
        "load approved content only",
        default=False,
        help_text="An edit, or a new folder, serves once its content is approved. Until then what was approved before "
        "goes on serving, from a copy of its own.",
    )
    denied_imports = models.JSONField(default=list, blank=True)

    class Meta:
        verbose_name = verbose_name_plural = "module policy"

    def __str__(self) -> str:
        return "Module policy"


@audited(without=["approved_by", "approved_at"])
class ApprovedVersion(ConfigModel):
    """Content of a folder that may be loaded while the modules are locked."""

    folder_id = models.CharField("folder", max_length=200)
    digest = models.CharField(max_length=64, help_text="SHA-256 over the folder.")
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    approved_at = models.DateTimeField(auto_now=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["folder_id", "-approved_at"]
        constraints = [models.UniqueConstraint(fields=["folder_id", "digest"], name="one_approval_per_version")]

    def __str__(self) -> str:
        return f"{self.folder_id} {self.short}"

    @property
    def short(self) -> str:
        return self.digest[:SHORT]


class ServingWorker(models.Model):
    """A server process and the versions that it serves. The row goes when the process does."""

    worker_id = models.CharField(max_length=40, unique=True)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    discovery = models.CharField(max_length=20, help_text="How it learns of edits.")
    discovery_reason = models.TextField(blank=True, help_text="Why it does not watch the folders, and what helps.")
    versions = models.JSONField(default=dict, help_text='{agent id: short digest}; "" when no version of it loads.')

    class Meta:
        ordering = ["host", "started_at", "pid"]

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"


class Diagnostic(models.Model):
    """Why something in the discovery folders does not serve as it should, and how to mend it."""

    agent_id = models.CharField(max_length=200, db_index=True)
    code = models.CharField(max_length=40, help_text="Stable id, listed in docs/diagnostics.md.")
    severity = models.CharField(max_length=8, choices=[("error", "Error"), ("warning", "Warning")])
    file = models.CharField(max_length=500, blank=True)
    line = models.PositiveIntegerField(null=True, blank=True)
    reason = models.TextField()
    remedy = models.TextField()
    found_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["agent_id", "severity", "code"]

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"
