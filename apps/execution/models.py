"""What was run: one row per request that reached an agent, and the runs that wait for a person or a client."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Self

from django.db import models
from django.db.models.base import ModelState
from django.utils import timezone


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
        ]

    def __str__(self) -> str:
        return self.id

    @classmethod
    def begun(cls, **known: Any) -> Self:
        """A row that is not stored yet, by the names of its columns.

        What Django's constructor does for each row costs more than all else that is recorded of a run.
        """
        run = cls.__new__(cls)
        run._state = ModelState()  # noqa: SLF001  # as Model.__init__ does
        run.__dict__.update(_defaults(cls), **known)
        return run

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@cache
def _defaults(model: type[Run]) -> Mapping[str, Any]:
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
