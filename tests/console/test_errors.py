"""The page Errors: what went wrong lately, with its remedy."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from apps.core.clock import now
from apps.observability.models import ErrorEvent
from tests.factories import DropInFactory, RunFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/observability/errorevent/"


def failure(number: int = 1, **other: Any) -> ErrorEvent:
    values = {
        "stage": "execute", "code": "agent_error", "subject": "default/a", "message": "The code failed.",
        "remedy": "Mend the module.", "traceback": "Traceback (most recent call last):\nValueError: <b>no</b>\n",
        "facts": {"agent": "default/a"}, "request_id": "req-1", "count": 3, "first_at": now(), "last_at": now(),
    }  # fmt: skip
    return ErrorEvent.objects.create(fingerprint=str(number), **{**values, **other})


def test_list_tells_stage_subject_count_and_remedy(admin_client: Client) -> None:
    failure()

    page = admin_client.get(LIST).content.decode()

    for words in ("Execute", "default/a", "The code failed.", "Mend the module.", "agent_error"):
        assert words in page


def test_page_of_one_links_to_its_agent_and_runs_and_folds_the_traceback(admin_client: Client) -> None:
    agent = DropInFactory.create(agent_id="default/a")
    RunFactory.create(request_id="req-1")
    row = failure()

    page = admin_client.get(f"{LIST}{row.pk}/change/").content.decode()

    assert f'href="/admin/catalog/dropin/{agent.pk}/change/"' in page
    assert 'href="/admin/execution/run/?q=req-1"' in page
    assert "<details" in page
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;</summary>" in page
    assert len(admin_client.get("/admin/execution/run/?q=req-1").context["cl"].result_list) == 1


def test_filters_by_stage_code_and_time(admin_client: Client) -> None:
    new = failure()
    old = failure(2, stage="discover", code="syntax_error", last_at=now() - timedelta(days=2))

    def found(query: str) -> list[ErrorEvent]:
        return list(admin_client.get(f"{LIST}?{query}").context["cl"].result_list)

    assert (found("stage=discover"), found("code=agent_error"), found("last=day")) == ([old], [new], [new])


def test_nothing_can_be_changed_and_an_empty_ring_says_so(admin_client: Client) -> None:
    row = failure()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    row.delete()
    assert "Nothing went wrong" in admin_client.get(LIST).content.decode()


def test_more_rows_cost_no_more_queries(admin_client: Client, count_queries: Callable[..., int]) -> None:
    failure()
    admin_client.get(LIST)
    one = count_queries(lambda: admin_client.get(LIST))
    failure(2, subject="default/b")
    failure(3, subject="default/c")

    assert count_queries(lambda: admin_client.get(LIST)) == one
