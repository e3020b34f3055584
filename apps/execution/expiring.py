"""Approvals and open turns that nobody can take up any more."""

from datetime import datetime

from apps.execution.models import Approval, OpenTurn


def forget_expired(now: datetime) -> int:
    """How many rows there were. New ones of the same kind sweep them away too; where none come, this does."""
    return sum(model.objects.filter(expires_at__lt=now).delete()[0] for model in (Approval, OpenTurn))
