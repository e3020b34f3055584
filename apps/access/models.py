"""Who may call: API keys."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone

from apps.core.models import ConfigModel, ConfigQuerySet


def all_agents() -> list[str]:
    return ["*"]


class ApiKeyQuerySet(ConfigQuerySet["ApiKey"]):
    def in_force(self, at: datetime) -> "ApiKeyQuerySet":
        """Neither revoked nor expired at `at`."""
        unexpired = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=at)
        return self.filter(unexpired, revoked_at__isnull=True)

    def revoke(self, at: datetime) -> int:
        """Ends every key of the set that was not ended yet, in all workers within a second."""
        return self.filter(revoked_at__isnull=True).update(revoked_at=at)


class ApiKey(ConfigModel):
    """A caller's credential. The key itself is shown once and never stored; `digest` is its SHA-256."""

    name = models.CharField(max_length=100, help_text="Who or what uses this key, such as “Open WebUI”.")
    prefix = models.CharField(max_length=16, editable=False, help_text="The key's readable beginning.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    may_chat = models.BooleanField("chat", default=True, help_text="May use /v1: list models and chat.")
    may_administer = models.BooleanField("admin", default=False, help_text="May use the operators' API.")
    agents = models.JSONField(
        default=all_agents,
        blank=True,
        help_text="The agent ids that this key may use, as globs: * is any text, as in default/* or *planner*.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never expires.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()  # type: ignore[misc]  # django-stubs: a narrower manager than the base's

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def state(self, at: datetime | None = None) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= (at or timezone.now()):
            return "expired"
        return "active"
