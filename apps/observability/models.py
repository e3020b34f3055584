"""ErrorEvent: the ring of what went wrong lately, equal events counted instead of repeated."""

from django.db import models


class ErrorEvent(models.Model):
    """One kind of failure of one subject. Written behind; the oldest go when there are too many."""

    stage = models.CharField(max_length=20, help_text="Where it happened, such as authorise.")
    code = models.CharField(max_length=60)
    subject = models.CharField(max_length=200, blank=True, help_text="Whom or what it concerns.")
    message = models.TextField()
    remedy = models.TextField(blank=True, help_text="What to do.")
    traceback = models.TextField(blank=True, help_text="Of the first time.")
    facts = models.JSONField(default=dict)
    request_id = models.CharField(max_length=128, blank=True, help_text="Of the last time.")
    fingerprint = models.CharField(max_length=64, unique=True, editable=False)
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-last_at"]
        verbose_name = "error"

    def __str__(self) -> str:
        return f"{self.stage} {self.code} ({self.count})"
