from collections.abc import Iterator
from pathlib import Path

from django.db.models import Q
from django.urls import reverse

from apps.audits.rule import Found, Rule, Severity
from apps.catalog import modules
from apps.catalog.models import SHORT, ApprovedVersion, DropIn, State


def _check() -> Iterator[Found]:
    """Of folders that somebody approved once; while the modules are locked, of all."""
    approved: dict[str, set[str]] = {}
    for folder_id, digest in ApprovedVersion.objects.values_list("folder_id", "digest"):
        approved.setdefault(folder_id, set()).add(digest)
    is_locked = modules.is_locked()
    folders = DropIn.objects.exclude(state=State.GONE).exclude(Q(disk_digest="") | Q(folder_id=""))
    for row in folders.order_by("folder_id", "agent_id"):
        if not (is_locked or row.folder_id in approved) or row.disk_digest in approved.get(row.folder_id, ()):
            continue
        serves = "It does not serve: the modules are locked." if is_locked else "It serves: the modules are not locked."
        yield Found(
            f"folder {row.folder_id}",
            f"{Path(row.folder).name} holds version {row.disk_digest[:SHORT]}, which nobody approved. {serves}",
            link=reverse("admin:catalog_dropin_change", args=[row.pk]),
        )


RULE = Rule(
    "agents-not-approved",
    "Drop-ins that changed since they were approved",
    Severity.HIGH,
    "Review what changed on the agent's page, and approve it or put the approved version back.",
    _check,
)
