import re
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
from apps.execution.models import Outcome, Run, RunBucket
from apps.execution.pages import text_search
from tests.factories import ApiKeyFactory, DeclaredAgentFactory

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
        admin_client.get(LIST, {"_facets": "True"})
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


@pytest.mark.parametrize(
    "text", ["run_2", "req_2", " req_2 ", "default/gone", "two", "anna@example.org", "anna@", "u-2", "CREDIT", "gpt-9"]
)
def test_search_finds_ids_agents_keys_users_models_and_errors(admin_client: Client, text: str) -> None:
    key = ApiKeyFactory(name="Number two")
    run(1, key_id=key.pk + 1, error="no credit left")  # did not fail: its text is not looked through
    run(2, agent_id="default/gone", key_id=key.pk, user_id="u-2", user_name="anna@example.org", model="gpt-9",
        outcome=Outcome.FAILED, error="no credit left")  # fmt: skip
    rows = admin_client.get(LIST, {"q": text}).context["cl"].result_list
    assert [row.pk for row in rows] == ["run_2"]


def test_search_stays_within_the_filters(admin_client: Client) -> None:
    run(1, outcome=Outcome.FAILED, error="no credit")
    run(90, outcome=Outcome.FAILED, error="no credit")
    rows = admin_client.get(LIST, {"q": "credit", "within": "hour"}).context["cl"].result_list
    assert [row.pk for row in rows] == ["run_1"]


def test_search_looks_for_texts_among_the_newest_only(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_search, "LOOKED_THROUGH", 2)
    for number in range(1, 6):
        run(number, outcome=Outcome.FAILED, error="no credit")
    rows = admin_client.get(LIST, {"q": "credit"}).context["cl"].result_list
    assert [row.pk for row in rows] == ["run_1", "run_2", "run_3"]


@pytest.mark.parametrize("rows", [1, 3])
def test_search_costs_the_same_for_any_number_of_rows(
    admin_client: Client, count_queries: Callable[..., int], rows: int
) -> None:
    for number in range(rows):
        run(number, user_name="anna")
    assert count_queries(lambda: admin_client.get(LIST, {"q": "anna"})) == 19


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"within": "hour"}, ["run_30"]),
        ({"within": "day"}, ["run_30", "run_600"]),
        ({"within": "week"}, ["run_30", "run_600", "run_9000"]),
        ({"within": "aeon"}, ["run_30", "run_600", "run_9000", "run_90000"]),
        ({"key": "7"}, ["run_600"]),
        ({"key": "none"}, ["run_30", "run_600", "run_9000", "run_90000"]),
        ({"agent": "openai/gpt"}, ["run_9000"]),
    ],
)
def test_filters_by_time_key_and_agent(admin_client: Client, query: dict[str, str], found: list[str]) -> None:
    for minutes, fields in ((30, {}), (600, {"key_id": 7}), (9000, {"agent_id": "openai/gpt"}), (90_000, {})):
        run(minutes, **fields)
    assert [row.pk for row in admin_client.get(LIST, query).context["cl"].result_list] == found


def test_agents_to_choose_from_are_those_that_exist_or_ran_lately(admin_client: Client) -> None:
    DropIn.objects.create(agent_id="default/b")
    DeclaredAgentFactory(name="helpdesk")
    for agent_id, days in (("openai/gpt", 1), ("openai/old", 30)):
        RunBucket.objects.create(began_at=clock.now() - timedelta(days=days), agent_id=agent_id)
    page = admin_client.get(LIST, {"agent": "from/a-link"}).content.decode()
    chosen = page.partition('name="agent"')[2].partition("</select>")[0]
    assert re.findall(r'<option value="([^"]*)"( selected)?', chosen) == [
        ("", ""), ("from/a-link", " selected"), ("default/b", ""), ("default/helpdesk", ""), ("openai/gpt", ""),
    ]  # fmt: skip


def test_quick_filters_keep_what_is_chosen_and_go_off_again(admin_client: Client) -> None:
    run(1)
    quick = admin_client.get(LIST, {"within": "day", "agent": "default/a"}).context["cl"].quick
    assert quick == [
        ("Last hour", "?agent=default%2Fa&within=hour", False),
        ("24 hours", "?agent=default%2Fa", True),
        ("7 days", "?agent=default%2Fa&within=week", False),
        ("Failed", "?agent=default%2Fa&outcome__exact=failed&within=day", False),
    ]


def test_choosing_a_key_keeps_the_search_and_the_other_filters(admin_client: Client) -> None:
    run(1)
    page = admin_client.get(LIST, {"q": "x<y", "within": "day"}).content.decode()
    form = page.partition('for="filter-key"')[2].partition("</form>")[0]
    assert '<input type="hidden" name="within" value="day">' in form
    assert '<input type="hidden" name="q" value="x&lt;y">' in form


def test_search_that_finds_no_run_leads_to_where_refused_requests_are(admin_client: Client) -> None:
    """A request that was refused before it reached an agent is no run, and whoever has its id has to find it."""
    page = admin_client.get(LIST, {"q": "req_refused"}).content.decode()
    links = [f"/admin/{where}/?q=req_refused" for where in ("observability/errorevent", "access/denial")]
    assert [link in page for link in links] == [True, True]
    run(1, request_id="req_refused")
    assert "errorevent/?q=" not in admin_client.get(LIST, {"q": "req_refused"}).content.decode()


def test_outcome_is_said_in_words_with_its_error(admin_client: Client) -> None:
    run(1, outcome=Outcome.FAILED, error_code="upstream_timeout", error="<b>did not answer</b>")
    assert re.search(r"Failed\s*</span>.*?upstream timeout", admin_client.get(LIST).content.decode(), re.DOTALL)
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
