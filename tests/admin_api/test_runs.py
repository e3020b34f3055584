"""/admin/runs: found by what is known of them, page by page, and one of them with its steps."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from apps.execution import run_search
from apps.execution.models import Outcome, RunStep, StepKind
from apps.execution.run_search import Wanted
from tests.admin_api.conftest import Caller
from tests.factories import RunFactory

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def run(id: str, minutes: float = 0, **fields: Any) -> None:
    RunFactory.create(id=id, started_at=NOON + timedelta(minutes=minutes), **fields)


def ids(caller: Caller, query: str = "") -> list[str]:
    status, answer = caller.ask("GET", f"/admin/runs?{query}")
    assert status == 200, answer
    return [one["id"] for one in answer["data"]]


def test_run_is_told_in_full(admin: Caller) -> None:
    run(
        "a", request_id="req_1", trace_id="4b" * 16, user_id="u-7", user_name="ann@example.com", streamed=True,
        outcome=Outcome.FAILED, finish_reason="", error_code="upstream_timeout", error="Silence.", cost_usd=0.0021,
    )  # fmt: skip

    status, answer = admin.ask("GET", "/admin/runs")

    shown = {
        "id": "a",
        "request_id": "req_1",
        "trace_id": "4b" * 16,
        "agent": "default/agent",
        "version": "0" * 64,
        "key": {"id": 1, "name": "A key"},
        "user": {"id": "u-7", "name": "ann@example.com"},
        "upstream": "demo",
        "model": "demo",
        "streamed": True,
        "outcome": "failed",
        "finish_reason": "",
        "error": {"code": "upstream_timeout", "message": "Silence."},
        "started_at": "2026-11-25T12:00:00Z",
        "first_event_ms": 12.5,
        "duration_ms": 250.0,
        "model_calls": 1,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "tokens_estimated": False,
        "cost_usd": 0.0021,
    }
    assert (status, answer) == (200, {"data": [shown], "has_more": False, "next": None})
    assert admin.ask("GET", "/admin/runs/a") == (200, {**shown, "steps": [], "has_more_steps": False})


def test_steps_come_in_their_order_with_contents_where_they_were_recorded(admin: Caller) -> None:
    run("a")
    common: dict[str, Any] = {"run_id": "a", "run_started_at": NOON, "outcome": "ok", "began_ms": 1.0}
    RunStep.objects.create(
        number=2, parent=1, kind=StepKind.TOOL, name="search", input='{"q": 1}', output="x", **common
    )
    RunStep.objects.create(number=1, kind=StepKind.AGENT, name="A", detail={"tokens": 3}, duration_ms=7.5, **common)
    RunStep.objects.create(number=1, kind=StepKind.AGENT, name="another run's", **{**common, "run_id": "b"})

    _, answer = admin.ask("GET", "/admin/runs/a")

    assert answer["steps"] == [
        {
            "number": 1, "parent": None, "kind": "agent", "name": "A", "turn": None, "outcome": "ok", "began_ms": 1.0,
            "duration_ms": 7.5, "error": "", "detail": {"tokens": 3}, "input": None, "output": None,
        },
        {
            "number": 2, "parent": 1, "kind": "tool", "name": "search", "turn": None, "outcome": "ok", "began_ms": 1.0,
            "duration_ms": None, "error": "", "detail": {}, "input": '{"q": 1}', "output": "x",
        },
    ]  # fmt: skip


def test_steps_beyond_what_is_told_are_said_to_be_there(admin: Caller) -> None:
    run("a")
    RunStep.objects.bulk_create(
        RunStep(run_id="a", number=n, kind="tool", name="t", outcome="ok", began_ms=n, run_started_at=NOON)
        for n in range(1, 1002)
    )

    _, answer = admin.ask("GET", "/admin/runs/a")

    assert (len(answer["steps"]), answer["steps"][-1]["number"], answer["has_more_steps"]) == (1000, 1000, True)


def test_run_that_is_none_is_not_found(admin: Caller) -> None:
    status, answer = admin.ask("GET", "/admin/runs/none")
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "not_found", "run_id")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["e", "d", "c", "b", "a"]),
        ("agent=labs/planner", ["b"]),
        ("key_id=7", ["c"]),
        ("user=u-7", ["d"]),
        ("outcome=completed", ["d", "c", "b"]),
        ("outcome=failed", ["e", "a"]),
        ("request_id=req_b", ["b"]),
        ("upstream=hub", ["c"]),
        ("model=qwen3", ["d"]),
        ("streamed=true", ["a"]),
        ("streamed=false&outcome=failed", ["e"]),
        ("since=2026-11-25T12:01:00Z&until=2026-11-25T12:03:00Z", ["c", "b"]),
        ("since=2026-11-25T13:02:00%2B01:00", ["e", "d", "c"]),
        ("q=SILENCE", ["e"]),
        ("q=tool_err", ["a"]),
        ("q=declined", []),  # of no failed run
        ("q=silence&agent=labs/planner", []),
    ],
)
def test_runs_are_found_by(admin: Caller, query: str, found: list[str]) -> None:
    run("a", 0, outcome=Outcome.FAILED, error_code="tool_error", streamed=True)
    run("b", 1, agent_id="labs/planner", request_id="req_b", error="declined")
    run("c", 2, key_id=7, upstream="hub")
    run("d", 3, user_id="u-7", model="qwen3")
    run("e", 4, outcome=Outcome.FAILED, error_code="upstream_timeout", error="Two seconds of silence.")

    assert ids(admin, query) == found


def test_pages_follow_each_other_though_runs_come_and_go(admin: Caller) -> None:
    for number in range(5):
        run(f"r{number}", minutes=0 if number in (1, 2) else number)  # two at the same instant

    def page(query: str) -> tuple[list[str], str | None]:
        _, answer = admin.ask("GET", f"/admin/runs?limit=2&{query}")
        assert answer["has_more"] is (answer["next"] is not None)
        return [one["id"] for one in answer["data"]], answer["next"]

    first, following = page("")
    run("newer", 9)
    second, last = page(f"cursor={quote(str(following))}")
    third, end = page(f"cursor={quote(str(last))}")

    assert (first, second, third, end) == (["r4", "r3"], ["r2", "r1"], ["r0"], None)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("cursor=none", "cursor"),
        ("cursor=MjAyNi0xMS0yNVQxMjowMDowMCBh", "cursor"),  # a time without its zone
        ("cursor=%C3%A9", "cursor"),
        ("limit=501", "limit"),
        ("key_id=x", "key_id"),
        ("outcome=lost", "outcome"),
        ("since=2026-11-25T12:00:00", "since"),
    ],
)
def test_what_makes_no_sense_is_refused(admin: Caller, query: str, param: str) -> None:
    status, answer = admin.ask("GET", f"/admin/runs?{query}")
    assert (status, answer["error"]["param"]) == (400, param)


@pytest.mark.parametrize("rows", [1, 3])
def test_list_is_one_query_however_many_runs_there_are(
    admin: Caller, django_assert_num_queries: DjangoAssertNumQueries, rows: int
) -> None:
    for number in range(rows):
        run(f"r{number}", number)
    ids(admin)

    with django_assert_num_queries(1):
        admin.client.get("/admin/runs", headers=admin.headers)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Wanted(), "run_recent"),
        (Wanted(agent_id="default/agent"), "run_by_agent"),
        (Wanted(key_id=1), "run_by_key"),
        (Wanted(user_id="u-7"), "run_by_user"),
        (Wanted(outcome="cancelled"), "run_not_completed"),
        (Wanted(text="silence"), "run_not_completed"),
        (Wanted(request_id="req_1"), "execution_run_request_id"),
    ],
)
def test_what_picks_few_runs_goes_by_an_index(wanted: Wanted, index: str) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL chooses by what is in the table, which is nothing here")

    assert f"USING INDEX {index}" in run_search.matching(wanted).order_by("-started_at", "-id")[:50].explain()
