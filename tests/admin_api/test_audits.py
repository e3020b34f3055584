from datetime import timedelta

import pytest

from apps.audits.models import AuditRun, Finding
from apps.core import clock
from tests.admin_api.conftest import Caller

pytestmark = pytest.mark.django_db


def finding(subject: str, **fields: object) -> Finding:
    now = clock.now()
    known = {"rule": "a-rule", "title": "A", "severity": "high", "message": "It is.", "first_seen": now, "since": now}
    row: Finding = Finding.objects.create(subject=subject, last_seen=now, **{**known, **fields})
    return row


def test_findings_are_those_that_are_open_unless_others_are_asked_for(admin: Caller) -> None:
    now = clock.now()
    finding("new")
    finding("low", severity="low", state="still")
    finding("accepted", accepted_until=now + timedelta(days=1), accepted_by="ann", accepted_reason="so")
    finding("lapsed", accepted_until=now - timedelta(days=1), rule="b-rule")
    finding("gone", state="gone")

    def asked(query: str) -> list[tuple[str, str]]:
        status, body = admin.ask("GET", f"/admin/findings{query}")
        assert (status, body["total"]) == (200, len(body["data"]))
        return sorted((one["subject"], one["state"]) for one in body["data"])

    assert asked("") == [("lapsed", "new"), ("low", "still"), ("new", "new")]
    assert asked("?state=accepted") == [("accepted", "accepted")]
    assert asked("?state=gone") == [("gone", "gone")]
    assert asked("?severity=low") == [("low", "still")]
    assert asked("?rule=b-rule") == [("lapsed", "new")]
    assert len(asked("?state=all")) == 5
    assert admin.ask("GET", "/admin/findings?state=odd")[0] == 400


def test_audits_are_listed_the_latest_first(admin: Caller) -> None:
    now = clock.now()
    AuditRun.objects.create(by="schedule", started_at=now - timedelta(days=1), outcome="failed", error="It fell.")
    AuditRun.objects.create(by="ann", started_at=now, ended_at=now, outcome="completed", is_whole=False, found=3)

    _, body = admin.ask("GET", "/admin/audits")
    assert [(one["by"], one["outcome"], one["all_rules"], one["found"]) for one in body["data"]] == [
        ("ann", "completed", False, 3),
        ("schedule", "failed", True, 0),
    ]
    _, body = admin.ask("GET", "/admin/audits?outcome=failed")
    assert [one["error"] for one in body["data"]] == ["It fell."]
