"""Who may call, what they may use, and who says so: keys, teams, and the rules of access."""

from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.access.policy import Effect, Kind, Level, Place, Rule
from apps.core import secrets
from apps.core.audit import audited
from apps.core.models import ConfigModel, ConfigQuerySet, ConfigRow
from apps.observability.models import ErrorEvent

_USER = settings.AUTH_USER_MODEL
DENIED = "authorise"  # the stage of a denial in the ring of failures


@audited(without=["created_at"])
class Team(ConfigModel):
    """Keys that belong together: granted, limited and suspended as one."""

    name = models.CharField(max_length=100, unique=True)
    suspended = models.BooleanField(
        default=False,
        help_text="The kill switch: every key of the team is refused within a second, until you take it off.",
    )
    suspended_reason = models.CharField(
        "reason", max_length=200, blank=True, help_text="Told to whoever is refused, and kept in the history."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def suspend(self, reason: str) -> None:
        """Has every key of the team refused, in all workers within a second. Callers are told the reason."""
        self.suspended, self.suspended_reason = True, reason
        self.save(update_fields=["suspended", "suspended_reason"])

    def resume(self) -> None:
        self.suspended, self.suspended_reason = False, ""
        self.save(update_fields=["suspended", "suspended_reason"])


class ApiKeyQuerySet(ConfigQuerySet["ApiKey"]):
    def in_force(self, at: datetime) -> "ApiKeyQuerySet":
        """Neither revoked nor expired at `at`."""
        unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=at)
        return self.filter(unexpired, revoked_at__isnull=True)

    def in_state(self, state: str, at: datetime) -> "ApiKeyQuerySet":
        """`active`, `expired`, `revoked`, or `suspended`: those that would be active if their team were not."""
        match state:
            case "active":
                return self.in_force(at).exclude(team__suspended=True)
            case "suspended":
                return self.in_force(at).filter(team__suspended=True)
            case "expired":
                return self.filter(revoked_at__isnull=True, expires_at__lte=at)
            case _:
                return self.filter(revoked_at__isnull=False)

    def search(self, text: str) -> "ApiKeyQuerySet":
        """Those with the text in their name or owner, or whose credential begins so."""
        return self.filter(Q(name__icontains=text) | Q(owner__icontains=text) | Q(prefix__startswith=text))

    def revoke(self, at: datetime) -> int:
        """Ends every key of the set that was not ended yet, in all workers within a second, for good. How many."""
        return self.filter(revoked_at__isnull=True).set_each("revoked_at", at)

    def end(self, at: datetime) -> int:
        """Lets every key of the set expire `at` that instant. How many."""
        return self.set_each("expires_at", at)

    def set_each(self, field: str, value: object) -> int:
        """One by one, because the history of changes tells of each row what it was before."""
        rows = list(self)
        for row in rows:
            setattr(row, field, value)
            row.save(update_fields=[field])
        return len(rows)


@audited(
    without=["digest", "previous_digest", "asked_for", "last_used_at", "created_at", "created_by"],
    secret=["encrypted_identity_secret"],
)
class ApiKey(ConfigModel):
    """A caller's credential. The key itself is shown once and never stored; `digest` is its SHA-256."""

    name = models.CharField(max_length=100, help_text="Who or what uses this key, such as “Open WebUI”.")
    owner = models.CharField(max_length=200, blank=True, help_text="The person who answers for it, such as an e-mail.")
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.SET_NULL, related_name="keys")
    prefix = models.CharField(max_length=16, editable=False, help_text="The key's readable beginning.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    previous_digest = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        db_index=True,
        help_text="Of the credential before the last rotation.",
    )
    previous_until = models.DateTimeField(
        "former credential until",
        null=True,
        blank=True,
        editable=False,
        help_text="When the former one stops counting.",
    )
    may_chat = models.BooleanField("chat", default=True, help_text="May use /v1: list models and chat.")
    may_administer = models.BooleanField("admin", default=False, help_text="May use the operators' API.")
    ip_ranges = models.JSONField(
        "addresses",
        default=list,
        blank=True,
        help_text="Where it may be used from: addresses or ranges such as 10.0.0.0/8, one a line. Empty: anywhere.",
    )
    origins = models.JSONField(
        default=list,
        blank=True,
        help_text="Web pages that may use it, one a line, such as https://chat.example.com. Then nothing else may: "
        "requests have to carry one of these as Origin. Empty: no matter.",
    )
    trusts_identity_headers = models.BooleanField(
        "trusted front end",
        default=False,
        help_text="The X-OpenWebUI-User-* headers of its requests say who the person is. Only for a chat UI that "
        "nobody else can pose as.",
    )
    encrypted_identity_secret = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        _USER, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    asked_for = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text="Digest of who asked for it and the mark of the request: a repeated one makes no other key.",
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never expires.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()  # type: ignore[misc]  # django-stubs: a narrower manager than the base's

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"
        constraints = [
            models.UniqueConstraint(fields=["asked_for"], condition=~Q(asked_for=""), name="one_key_for_a_request")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def globs(self) -> list[str]:
        """The agents that its own grants allow. One query, unless they were prefetched."""
        return [grant.agents for grant in self.grants.all() if grant.effect == Effect.ALLOW]

    def set_identity_secret(self, plaintext: str) -> None:
        """What signs X-OpenWebUI-User-Jwt for this key; "" when persons are not signed."""
        self.encrypted_identity_secret = secrets.encrypt(plaintext) if plaintext else ""

    def former_counts(self, at: datetime) -> bool:
        """Whether the credential before the last rotation is still accepted."""
        return bool(self.previous_until and at < self.previous_until and not self.revoked_at)

    def state(self, at: datetime | None = None) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= (at or timezone.now()):
            return "expired"
        return "active"


# --- rules -----------------------------------------------------------------------------------------------------------


class Effects(models.TextChoices):
    ALLOW = Effect.ALLOW.value, "Allow"
    DENY = Effect.DENY.value, "Deny"


class Scoped(ConfigModel):
    """For one key, one team, whoever uses the agents of one namespace, or (all three empty) everyone."""

    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="%(class)ss")
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="%(class)ss")
    namespace = models.CharField(
        max_length=100, blank=True, help_text="The part of agent ids before the slash: for whoever uses its agents."
    )

    class Meta:
        abstract = True

    @property
    def place(self) -> Place:
        return place_of(self.key_id, self.team_id, self.namespace)

    @property
    def whom(self) -> str:
        """In words."""
        if self.key_id is not None:
            return f"key {self.key}"
        if self.team_id is not None:
            return f"team {self.team}"
        return f"namespace {self.namespace}" if self.namespace else "everyone"


def place_of(key_id: int | None, team_id: int | None, namespace: str) -> Place:
    if key_id is not None:
        return Level.KEY, key_id
    if team_id is not None:
        return Level.TEAM, team_id
    return (Level.NAMESPACE, namespace) if namespace else (Level.EVERYONE, "")


def _one_subject(name: str) -> models.CheckConstraint:
    alone = [
        Q(key__isnull=False, team__isnull=True, namespace=""),
        Q(key__isnull=True, team__isnull=False, namespace=""),
        Q(key__isnull=True, team__isnull=True),
    ]
    return models.CheckConstraint(
        condition=alone[0] | alone[1] | alone[2],
        name=name,
        violation_error_message="Choose one of key, team and namespace, or none of them for everyone.",
    )


class StandingRule(Scoped):
    """A rule without an end."""

    effect = models.CharField(max_length=5, choices=Effects, default=Effects.ALLOW)
    note = models.CharField(max_length=200, blank=True, help_text="Why; shown wherever the rule speaks.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True

    def rule(self) -> Rule:
        raise NotImplementedError

    def _rule(self, kind: Kind, pattern: str, agents: str = "*") -> Rule:
        level, subject = self.place
        name = self._meta.model_name
        return Rule(f"{name}-{self.pk}", kind, Effect(self.effect), pattern, level, subject, agents, note=self.note)


@audited(without=["created_at"])
class Grant(StandingRule):
    """Who may use which agents."""

    agents = models.CharField(
        max_length=200, help_text="A glob over agent ids: * is any text, as in default/*, *planner* or labs/planner."
    )

    class Meta:
        ordering = ["-key", "-team", "namespace", "agents", "effect"]
        constraints = [_one_subject("grant_of_one_subject")]

    def __str__(self) -> str:
        return f"{self.effect} {self.agents} for {self.whom}"

    def rule(self) -> Rule:
        return self._rule(Kind.AGENT, self.agents)


@audited(without=["created_at"])
class ToolRule(StandingRule):
    """Who may have which tools called. Without any rule every tool may be."""

    class By(models.TextChoices):
        NAME = Kind.TOOL.value, "Tool name"
        MODULE = Kind.MODULE.value, "Module of its function"

    by = models.CharField(max_length=6, choices=By, default=By.NAME)
    pattern = models.CharField(
        max_length=200, help_text="A glob over tool names, or over modules such as agents.labs.*, os.* or mcp.github."
    )
    agents = models.CharField(
        max_length=200, default="*", help_text="Only while an agent that fits this glob runs; * for any."
    )

    class Meta:
        ordering = ["-key", "-team", "namespace", "by", "pattern", "effect"]
        constraints = [_one_subject("tool_rule_of_one_subject")]

    def __str__(self) -> str:
        where = "" if self.agents == "*" else f" in {self.agents}"
        return f"{self.effect} {self.get_by_display().lower()} {self.pattern}{where} for {self.whom}"

    def rule(self) -> Rule:
        return self._rule(Kind(self.by), self.pattern, self.agents)


class OverrideQuerySet(ConfigQuerySet["Override"]):
    def in_force(self, at: datetime) -> "OverrideQuerySet":
        return self.filter(ended_at__isnull=True, expires_at__gt=at)


@audited(without=["created_at"])
class Override(ConfigModel):
    """A temporary allow or deny, for one key or (without one) for everyone. It ends by itself."""

    class About(models.TextChoices):
        AGENT = Kind.AGENT.value, "Agent"
        TOOL = Kind.TOOL.value, "Tool name"
        MODULE = Kind.MODULE.value, "Module of a tool's function"

    key = models.ForeignKey(
        ApiKey,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="overrides",
        help_text="Empty: for everyone.",
    )
    effect = models.CharField(max_length=5, choices=Effects)
    about = models.CharField(max_length=6, choices=About, default=About.AGENT)
    pattern = models.CharField(max_length=200, help_text="A glob over agent ids, tool names or modules.")
    reason = models.CharField(max_length=200)
    author = models.CharField(max_length=200, editable=False, help_text="The user or key that made it.")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="When it was taken back early.")

    objects = OverrideQuerySet.as_manager()  # type: ignore[misc]  # as ApiKey's

    class Meta:
        ordering = ["-expires_at"]

    def __str__(self) -> str:
        return f"{self.effect} {self.about} {self.pattern} for {self.key or 'everyone'}"

    def state(self, at: datetime) -> str:
        """`in force`, `ended` (taken back) or `expired`."""
        if self.ended_at:
            return "ended"
        return "in force" if at < self.expires_at else "expired"

    def rule(self) -> Rule:
        level, subject = (Level.KEY, self.key_id) if self.key_id is not None else (Level.EVERYONE, "")
        return Rule(
            f"override-{self.pk}",
            Kind(self.about),
            Effect(self.effect),
            self.pattern,
            level,
            subject,
            expires_at=self.expires_at,
            note=self.reason,
        )


@audited()
class AccessSettings(ConfigRow):
    """What holds for all access."""

    inner_agents_obey_grants = models.BooleanField(
        "inner agents obey the grants",
        default=False,
        help_text="Handoffs, and agents used as tools, also need a grant: for the id <namespace>/<name> that the inner "
        "agent's own name makes, such as default/refund-agent.",
    )

    class Meta:
        verbose_name = verbose_name_plural = "access settings"

    def __str__(self) -> str:
        return "access settings"


class DenialManager(models.Manager["Denial"]):
    def get_queryset(self) -> models.QuerySet["Denial"]:
        return super().get_queryset().filter(stage=DENIED)


class Denial(ErrorEvent):
    """What access refused lately: the ring of failures as far as `authorise` wrote it."""

    objects: ClassVar[DenialManager] = DenialManager()

    class Meta:
        proxy = True

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


from apps.access import limit_models  # noqa: E402, F401  # a model of this app that builds on those above
