from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.catalog.models import DropIn
from apps.core import clock
from apps.execution.admin import time_shown
from apps.execution.models import Outcome, Run

LIST = "/admin/execution/run/"

pytestmark = pytest.mark.django_db


def run(number: int, **fields: Any) -> Run:
    known = {
        "id": f"run_{number}",
        "request_id": f"req_{number}",
        "agent_id": "default/a",
        "outcome": Outcome.COMPLETED,
        "started_at": clock.now() - timedelta(minutes=number),
        "duration_ms": 1234.0,
        "prompt_tokens": 12,
        "completion_tokens": 3,
    }
    return Run.objects.create(**known | fields)


@pytest.mark.parametrize("rows", [1, 3])
def test_list_costs_the_same_for_any_number_of_rows(
    admin_client: Client, count_queries: Callable[..., int], rows: int
) -> None:
    for number in range(rows):
        run(number)
    assert count_queries(lambda: admin_client.get(LIST)) == 7


def test_list_never_counts_the_table(admin_client: Client) -> None:
    run(1)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(LIST)
    assert not [query for query in queries if "COUNT(" in query["sql"] and "execution_run" in query["sql"]]


def test_newest_comes_first(admin_client: Client) -> None:
    for number in (2, 1, 3):
        run(number)
    rows = admin_client.get(LIST).context["cl"].result_list
    assert [row.pk for row in rows] == ["run_1", "run_2", "run_3"]


def test_pages_go_on_without_a_count(admin_client: Client) -> None:
    for number in range(51):
        run(number)
    assert len(admin_client.get(LIST).context["cl"].result_list) == 50
    assert len(admin_client.get(LIST, {"p": 2}).context["cl"].result_list) == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "req_2"}, ["run_2"]),
        ({"q": "no credit"}, ["run_2"]),
        ({"q": "default/b"}, ["run_2"]),
        ({"outcome": "failed"}, ["run_2"]),
        ({"outcome__exact": "failed"}, ["run_2"]),
        ({"agent": "default/b"}, ["run_2"]),
        ({"streamed__exact": "1"}, ["run_2"]),
        ({"q": "nothing like it"}, []),
    ],
)
def test_finds_by_request_agent_error_and_outcome(
    admin_client: Client, query: dict[str, str], found: list[str]
) -> None:
    DropIn.objects.create(agent_id="default/b")
    run(1)
    run(2, agent_id="default/b", outcome=Outcome.FAILED, error="no credit left", streamed=True)
    rows = admin_client.get(LIST, query).context["cl"].result_list
    assert [row.pk for row in rows] == found


def test_outcome_is_said_in_words_with_its_error(admin_client: Client) -> None:
    run(1, outcome=Outcome.FAILED, error_code="upstream_timeout", error="<b>did not answer</b>")
    assert "Failed: upstream_timeout" in admin_client.get(LIST).content.decode()
    page = admin_client.get(f"{LIST}run_1/change/").content.decode()
    assert "&lt;b&gt;did not answer&lt;/b&gt;" in page


@pytest.mark.parametrize("page", ["add/", "run_1/delete/"])
def test_history_is_not_rewritten(admin_client: Client, page: str) -> None:
    run(1)
    assert admin_client.post(LIST + page, {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{LIST}run_1/change/", {"error": "x"}).status_code == 403
    assert Run.objects.get().error == ""


@pytest.mark.parametrize(("ms", "shown"), [(None, "-"), (0.0, "0 ms"), (999.4, "999 ms"), (1234.0, "1.2 s")])
def test_time_is_shown_for_people(ms: float | None, shown: str) -> None:
    assert time_shown(ms) == shown
