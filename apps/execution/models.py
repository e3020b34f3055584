"""What was run: one row per request that reached an agent."""

from django.db import models


class Outcome(models.TextChoices):
    COMPLETED = "completed", "Completed"
    REFUSED = "refused", "Refused"  # a guardrail or the model declined
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"  # the client left


class Run(models.Model):
    """Written behind the answer, once, when the run has ended. Keys and agents are kept by value: rows outlive them."""

    id = models.CharField(max_length=64, primary_key=True)
    request_id = models.CharField(max_length=128, db_index=True)
    agent_id = models.CharField("agent", max_length=200)
    agent_digest = models.CharField("version", max_length=64, blank=True)
    key_id = models.BigIntegerField("key", null=True)
    key_name = models.CharField("key", max_length=120, blank=True)
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

    class Meta:
        ordering = ["-started_at"]
        indexes = [
            models.Index(fields=["-started_at"], name="run_recent"),
            models.Index(fields=["agent_id", "-started_at"], name="run_by_agent"),
            models.Index(fields=["key_id", "-started_at"], name="run_by_key"),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
