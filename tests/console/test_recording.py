"""The page of what is kept of runs."""

from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.test import Client
from django.utils import timezone

from apps.core import live_config
from apps.execution.models import Purge, Recording
from apps.execution.recording_rules import RULES, RecordingRules

PAGE = f"/admin/execution/recording/{Recording.ROW}/change/"

pytestmark = pytest.mark.django_db


def test_settings_are_one_page_in_force_and_in_the_history(admin_client: Client) -> None:
    response = admin_client.get("/admin/execution/recording/", follow=True)
    assert response.redirect_chain == [(PAGE, 302)]
    assert "None yet" in response.content.decode()
    assert RULES.current() == RecordingRules(90, 14, 0)

    sent = {"keep_runs_days": 0, "keep_steps_days": 7, "record_contents": "on", "contents_characters": 500}
    admin_client.post(PAGE, sent)

    live_config.refresh()
    assert RULES.current() == RecordingRules(None, 7, 500)
    assert LogEntry.objects.get_for_model(Recording).get().changes_dict["record_contents"] == [None, True]


def test_more_than_can_wait_in_memory_is_refused(admin_client: Client) -> None:
    sent = {"keep_runs_days": 1, "keep_steps_days": 1, "contents_characters": 100_001}
    errors = admin_client.post(PAGE, sent).context["adminform"].form.errors
    assert list(errors) == ["contents_characters"]


def test_last_purge_is_told(admin_client: Client) -> None:
    Purge.claim(timezone.now(), timedelta(hours=1))
    assert "under way, or cut short" in admin_client.get(PAGE).content.decode()
    Purge.note(timezone.now(), runs=1, steps=2_500)
    assert "1 run and 2,500 steps deleted" in admin_client.get(PAGE).content.decode()
