"""What was run: one row per request that reached an agent, and the runs that wait for a person or a client."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q
from django.db.models.base import ModelState
from django.utils import timezone

from apps.core.audit import audited
from apps.core.claims import ClaimQuerySet
from apps.core.models import ConfigRow


class Outcome(models.TextChoices):
    COMPLETED = "completed", "Completed"
    REFUSED = "refused", "Refused"  # a guardrail or the model declined
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"  # the client left
    WAITING = "waiting", "Waits for approval"  # its next message decides; that is a run of its own


class Run(models.Model):
    """Written behind the answer, once, when the run has ended. Keys and agents are kept by value: rows outlive them."""

    id = models.CharField(max_length=64, primary_key=True)
    request_id = models.CharField(max_length=128, db_index=True)
    trace_id = models.CharField("trace", max_length=32, blank=True, help_text="32 hexadecimal digits, as W3C has it.")
    agent_id = models.CharField("agent", max_length=200)
    agent_digest = models.CharField("version", max_length=64, blank=True)
    key_id = models.BigIntegerField("key", null=True)
    key_name = models.CharField("key", max_length=120, blank=True)
    user_id = models.CharField("user", max_length=200, blank=True, help_text="Of the person, as the front end told it.")
    user_name = models.CharField("user", max_length=200, blank=True, help_text="E-mail, else name.")
    upstream = models.CharField(max_length=40, blank=True)
    model = models.CharField(max_length=200, blank=True)
    streamed = models.BooleanField(default=False)
    outcome = models.CharField(max_length=10, choices=Outcome)
    finish_reason = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField()
    first_event_ms = models.FloatField("time to first event", null=True)
    duration_ms = models.FloatField("duration")
    model_calls = models.PositiveIntegerField(default=0)
    is_plain = models.BooleanField(
        default=False, help_text="It was one model call and nothing else: no step is kept, because the run says it all."
    )
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    tokens_estimated = models.BooleanField(
        default=False, help_text="The server reported no usage for at least one call, or the call was cut short."
    )

    cost_usd = models.FloatField(
        "cost",
        null=True,
        help_text="USD, by the prices that held then; empty where no model that was called has a price.",
    )

    class Meta:
        ordering = ["-started_at"]
        indexes = [
            models.Index(fields=["-started_at"], name="run_recent"),
            models.Index(fields=["agent_id", "-started_at"], name="run_by_agent"),
            models.Index(fields=["key_id", "-started_at"], name="run_by_key"),
            # What most runs are not in: small, and hardly a cost to whoever writes runs. SQLite takes a partial index
            # only where a term of the query is one of its condition: ask for a user with `.exclude(user_id="")` too.
            models.Index(fields=["user_id", "-started_at"], condition=~Q(user_id=""), name="run_by_user"),
            models.Index(
                fields=["outcome", "-started_at"],
                condition=Q(outcome=Outcome.FAILED)
                | Q(outcome=Outcome.REFUSED)
                | Q(outcome=Outcome.CANCELLED)
                | Q(outcome=Outcome.WAITING),
                name="run_not_completed",
            ),
            models.Index(fields=["user_name", "-started_at"], condition=~Q(user_name=""), name="run_by_user_name"),
        ]

    def __str__(self) -> str:
        return self.id

    @classmethod
    def begun(cls, **known: Any) -> Self:
        """A row that is not stored yet, by the names of its columns.

        What Django's constructor does for each row costs more than all else that is recorded of a run.
        """
        row = _defaults(cls).copy()
        row.update(known)
        row["_state"] = ModelState()  # as Model.__init__ does
        run = cls.__new__(cls)
        run.__dict__ = row
        return run

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class StepKind(models.TextChoices):
    AGENT = "agent", "Agent"
    MODEL = "model", "Model call"
    TOOL = "tool", "Tool call"
    HANDOFF = "handoff", "Handoff"
    GUARDRAIL = "guardrail", "Guardrail"
    APPROVAL = "approval", "Approval"


class RunStep(models.Model):
    """Something that a run did. Written behind, apart from its Run: of the two, either may be missing."""

    run_id = models.CharField("run", max_length=64)
    number = models.PositiveIntegerField(help_text="From 1, in the order in which the run's steps began.")
    parent = models.PositiveIntegerField(null=True, help_text="The number of the step that it was made in.")
    kind = models.CharField(max_length=10, choices=StepKind)
    name = models.CharField(max_length=200, help_text="The agent's, model's or tool's; a handoff's target.")
    outcome = models.CharField(max_length=20, help_text="ok, error or, of tools, what their metric says.")
    began_ms = models.FloatField("began", help_text="Milliseconds after the run.")
    duration_ms = models.FloatField("duration", null=True)
    error = models.TextField(blank=True)
    detail = models.JSONField(default=dict, help_text="Such as tokens, upstream, source.")
    input = models.TextField(blank=True, help_text="Redacted, and only where the recording of contents is on.")
    output = models.TextField(blank=True)
    run_started_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run_id", "number"], name="step_of_run")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


# Milliseconds: how many runs of a bucket took at most so long, and no less than the one before.
TOOK_MS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)


class RunBucket(models.Model):
    """What the runs of ten minutes come to, for charts over millions of runs: counted when those are written."""

    MINUTES = 10

    began_at = models.DateTimeField(help_text="Of the ten minutes in which the runs began.")
    agent_id = models.CharField("agent", max_length=200)
    runs = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    cancelled = models.PositiveIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cost_usd = models.FloatField("cost", default=0)
    duration_ms = models.FloatField("duration", default=0, help_text="Of all together.")
    first_event_ms = models.FloatField("time to first event", default=0, help_text="Of all together.")
    with_first_event = models.PositiveIntegerField(default=0, help_text="Runs that came to a first event.")
    took_100 = models.PositiveIntegerField(default=0)
    took_250 = models.PositiveIntegerField(default=0)
    took_500 = models.PositiveIntegerField(default=0)
    took_1000 = models.PositiveIntegerField(default=0)
    took_2500 = models.PositiveIntegerField(default=0)
    took_5000 = models.PositiveIntegerField(default=0)
    took_10000 = models.PositiveIntegerField(default=0)
    took_30000 = models.PositiveIntegerField(default=0)
    took_60000 = models.PositiveIntegerField(default=0)
    took_longer = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-began_at"]
        constraints = [models.UniqueConstraint(fields=["began_at", "agent_id"], name="bucket_of_agent")]

    def __str__(self) -> str:
        return f"{self.agent_id} {self.began_at:%Y-%m-%d %H:%M}"


@audited()
class Recording(ConfigRow):
    """What is kept of runs, and for how long. One row."""

    keep_runs_days = models.PositiveIntegerField("keep runs", default=90, help_text="Days; 0: for ever.")
    keep_steps_days = models.PositiveIntegerField("keep steps", default=14, help_text="Days; 0: for ever.")
    record_contents = models.BooleanField(
        default=False,
        help_text="Keep what models and tools are sent and answer, redacted: whoever may see runs can then read it.",
    )
    contents_characters = models.PositiveIntegerField(
        default=4_000, help_text="The most that is kept of one input or output."
    )

    class Meta:
        verbose_name = verbose_name_plural = "recording"

    def __str__(self) -> str:
        return "What is kept of runs"


@cache
def _defaults(model: type[Run]) -> dict[str, Any]:
    """Shared by all rows: none may be one that changes."""
    return {field.attname: field.get_default() for field in model._meta.concrete_fields}  # noqa: SLF001


class Approval(models.Model):
    """Tool calls that a run wants to make and may not without a person. The run's state is gone once it is decided."""

    id = models.CharField("reference", max_length=40, primary_key=True)
    agent_id = models.CharField("agent", max_length=200)
    agent_digest = models.CharField("version", max_length=64, blank=True)
    key_id = models.BigIntegerField("key")
    user_id = models.CharField("user", max_length=200, blank=True)
    calls = models.JSONField(default=list, help_text="Objects with `name` and `arguments` (JSON text).")
    encrypted_state = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    approved = models.JSONField(null=True, blank=True, help_text="The numbers of the approved calls, from 1.")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.id

    def decide(self, *, approved: Sequence[int]) -> bool:
        """Whether this was the one decision; of two at once, in whichever workers, one gets False."""
        self.decided_at, self.approved = timezone.now(), list(approved)
        undecided = Approval.objects.filter(pk=self.pk, decided_at__isnull=True)
        return bool(undecided.update(decided_at=self.decided_at, approved=self.approved, encrypted_state=""))

    def state(self) -> str:
        """`open`, `approved`, `partly approved`, `rejected` or `expired`."""
        if self.decided_at is None:
            return "open" if self.expires_at > timezone.now() else "expired"
        if not self.approved:
            return "rejected"
        return "approved" if len(self.approved) == len(self.calls) else "partly approved"


class OpenTurn(models.Model):
    """What an agent's answer held besides the calls that its client has to make: messages that the client never saw."""

    id = models.CharField("reference", max_length=40, primary_key=True)
    agent_id = models.CharField("agent", max_length=200)
    key_id = models.BigIntegerField("key")
    user_id = models.CharField("user", max_length=200, blank=True)
    encrypted_messages = models.TextField(editable=False)  # JSON
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.id


class Purge(models.Model):
    """The last time that old rows were taken out: by whichever process claimed it. One row."""

    ROW = 1

    claimed_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    runs = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)

    objects: ClassVar[models.Manager[Any]] = ClaimQuerySet.as_manager()

    def __str__(self) -> str:
        return f"purge of {self.claimed_at:%Y-%m-%d %H:%M}"

    @classmethod
    def claim(cls, now: datetime, every: timedelta) -> bool:
        """Whether the caller is the one that purges now: nobody has for so long."""
        return cls.objects.take(cls.ROW, free=Q(claimed_at__lte=now - every), claimed_at=now, ended_at=None)

    @classmethod
    def note(cls, now: datetime, *, runs: int, steps: int) -> None:
        """It has ended, with so many rows out."""
        cls.objects.filter(pk=cls.ROW).update(ended_at=now, runs=runs, steps=steps)
