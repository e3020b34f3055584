"""What audits found, who is told of it, and what the scheduled work of several processes goes by."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from apps.audits.rule import Severity
from apps.core.audit import audited
from apps.core.claims import ClaimQuerySet
from apps.core.models import ConfigModel
from apps.core.secrets import decrypt, encrypt


class SeverityChoice(models.TextChoices):
    HIGH = Severity.HIGH, "High"
    MEDIUM = Severity.MEDIUM, "Medium"
    LOW = Severity.LOW, "Low"


FALLING = tuple(Severity)  # from the worst


def at_least(least: str) -> list[str]:
    """That severity and those above it."""
    return [str(one) for one in FALLING[: FALLING.index(Severity(least)) + 1]]


# --- audits ----------------------------------------------------------------------------------------------------------


class AuditRun(models.Model):
    """One audit. `is_whole`: of all rules; only such a one says which findings of rules that are no more are gone."""

    class Outcome(models.TextChoices):
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"  # a rule failed, or the process ended before the audit did

    by = models.CharField(max_length=150, help_text="A user's name, `schedule` or `command`.")
    is_whole = models.BooleanField("all rules", default=True)
    is_repeat = models.BooleanField("repeats a cut-off one", default=False)
    started_at = models.DateTimeField(db_index=True)
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.RUNNING)
    error = models.TextField(blank=True)
    rules = models.PositiveIntegerField(default=0, help_text="That this audit is to check.")
    checked = models.PositiveIntegerField(default=0)
    not_checked = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField("rules failed", default=0)
    found = models.PositiveIntegerField(default=0, help_text="Findings, accepted ones included.")
    new = models.PositiveIntegerField(default=0)
    gone = models.PositiveIntegerField(default=0)
    current_rule = models.CharField(max_length=80, blank=True)
    sizes = models.JSONField(default=dict, help_text="Of the database when a whole audit began: sizes.py says which.")

    class Meta:
        ordering = ["-started_at"]
        verbose_name = "audit"

    def __str__(self) -> str:
        return f"Audit of {self.started_at:%Y-%m-%d %H:%M}"


class RuleResult(models.Model):
    """What became of one rule in one audit."""

    class Outcome(models.TextChoices):
        CHECKED = "checked", "Checked"
        NOT_CHECKED = "not checked", "Not checked"
        FAILED = "failed", "Failed"

    run = models.ForeignKey(AuditRun, on_delete=models.CASCADE, related_name="results")
    rule = models.CharField(max_length=80)
    title = models.CharField(max_length=200)
    outcome = models.CharField(max_length=12, choices=Outcome)
    reason = models.TextField(blank=True, help_text="Why it was not checked, or how it failed.")
    found = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(default=0)

    class Meta:
        ordering = ["rule"]
        constraints = [models.UniqueConstraint(fields=["run", "rule"], name="result_of_rule")]

    def __str__(self) -> str:
        return f"{self.rule}: {self.outcome}"


class FindingQuerySet(models.QuerySet["Finding"]):
    def standing(self) -> Self:
        """Those that were there when they were looked for last."""
        return self.exclude(state=Finding.State.GONE)

    def open(self, now: datetime) -> Self:
        """Those of them that nobody has accepted for now."""
        return self.standing().filter(Q(accepted_until=None) | Q(accepted_until__lte=now))

    def accepted(self, now: datetime) -> Self:
        return self.standing().filter(accepted_until__gt=now)


class Finding(models.Model):
    """One subject that one rule found. The row stays when it is gone, and is the same when it is back."""

    class State(models.TextChoices):
        NEW = "new", "New"  # found by the last audit that looked, and not by the one before
        STILL = "still", "Still there"
        GONE = "gone", "Gone"

    rule = models.CharField(max_length=80)
    title = models.CharField(max_length=200)  # the rule's
    subject = models.CharField(max_length=300)
    severity = models.CharField(max_length=6, choices=SeverityChoice)
    message = models.TextField()
    remedy = models.TextField(blank=True)
    link = models.CharField(max_length=500, blank=True)
    state = models.CharField(max_length=5, choices=State, default=State.NEW)
    first_seen = models.DateTimeField(help_text="Ever.")
    since = models.DateTimeField(help_text="Since when it has been there without a break.")
    last_seen = models.DateTimeField()
    accepted_by = models.CharField(max_length=150, blank=True)
    accepted_reason = models.CharField(max_length=300, blank=True)
    accepted_until = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[Any]] = FindingQuerySet.as_manager()

    class Meta:
        ordering = ["-since", "-pk"]
        constraints = [models.UniqueConstraint(fields=["rule", "subject"], name="finding_of_rule")]

    def __str__(self) -> str:
        return f"{self.title}: {self.subject}"

    def is_accepted(self, now: datetime) -> bool:
        return self.accepted_until is not None and self.accepted_until > now


class FindingEvent(models.Model):
    """The history of a finding."""

    class What(models.TextChoices):
        NEW = "new", "Found"
        BACK = "back", "Back again"
        GONE = "gone", "Gone"
        ACCEPTED = "accepted", "Accepted"
        RETURNED = "returned", "Acceptance ended"

    finding = models.ForeignKey(Finding, on_delete=models.CASCADE, related_name="events")
    run = models.ForeignKey(AuditRun, null=True, on_delete=models.SET_NULL, related_name="events")
    what = models.CharField(max_length=10, choices=What)
    by = models.CharField(max_length=150, blank=True)
    note = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.what} {self.at:%Y-%m-%d}"


# --- who is told -----------------------------------------------------------------------------------------------------


@audited(secret=["encrypted_secret"])
class AlertChannel(ConfigModel):
    """Where alerts go: the log, a URL, people's mail boxes."""

    class Kind(models.TextChoices):
        LOG = "log", "Log"
        WEBHOOK = "webhook", "Webhook"
        EMAIL = "email", "E-mail"

    name = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.WEBHOOK)
    enabled = models.BooleanField(default=True)
    min_severity = models.CharField(
        "from severity",
        max_length=6,
        choices=SeverityChoice,
        default=Severity.MEDIUM,
        help_text="Findings below it are not told. Failed audits and broken agents count as high.",
    )
    url = models.URLField("URL", max_length=500, blank=True, help_text="Of a webhook.")
    allow_private_hosts = models.BooleanField(
        default=False, help_text="Lets the webhook be on a private network or on this machine."
    )
    encrypted_secret = models.TextField(blank=True, editable=False)
    recipients = models.JSONField(default=list, blank=True, help_text="Addresses, for e-mail.")

    class Meta:
        ordering = ["name"]
        verbose_name = "alert channel"

    def __str__(self) -> str:
        return self.name

    @property
    def secret(self) -> str:
        """What webhooks are signed with. Raises SecretUnreadable."""
        return decrypt(self.encrypted_secret) if self.encrypted_secret else ""

    @secret.setter
    def secret(self, plaintext: str) -> None:
        self.encrypted_secret = encrypt(plaintext) if plaintext else ""


class AlertDelivery(models.Model):
    """One alert to one channel, and how far its delivery is."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"  # given up

    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)  # such as audit.findings
    key = models.CharField(max_length=200, help_text="Of what it tells; each channel is told each once.")
    severity = models.CharField(max_length=6, choices=SeverityChoice)
    title = models.CharField(max_length=300)
    body = models.TextField(help_text="As sent to webhooks, JSON.")
    text = models.TextField(help_text="The same for people.")
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True)
    status = models.PositiveIntegerField("HTTP status", null=True)
    error = models.TextField("last error", blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        verbose_name = "alert"
        indexes = [models.Index(fields=["state", "next_attempt_at"], name="alerts_due")]
        constraints = [models.UniqueConstraint(fields=["channel", "key"], name="alert_once")]

    def __str__(self) -> str:
        return self.title


class BrokenAgent(models.Model):
    """A drop-in that was found broken, so that its alert is given once until it is mended."""

    agent_id = models.CharField(max_length=200, primary_key=True)
    since = models.DateTimeField()

    def __str__(self) -> str:
        return self.agent_id


# --- scheduled work --------------------------------------------------------------------------------------------------


class Claim(models.Model):
    """The right of one process to do one thing, until it gives it back or has not been heard of for a while."""

    name = models.CharField(max_length=60, primary_key=True)
    holder = models.CharField(max_length=60, blank=True)
    taken_at = models.DateTimeField()
    until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, help_text="When it was given back last.")
    said = models.TextField(blank=True, help_text="What came of it.")
    is_failed = models.BooleanField(default=False)

    objects: ClassVar[models.Manager[Any]] = ClaimQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class WorkerSeen(models.Model):
    """A Celery worker that runs. The row goes when the worker stops; one that was killed falls silent."""

    worker = models.CharField(max_length=200, primary_key=True, help_text="Host and process.")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    has_beat = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.worker


def severities(found: Iterable[str]) -> dict[str, int]:
    """How many of each, from the worst."""
    counted = list(found)
    return {str(one): counted.count(one) for one in FALLING}
