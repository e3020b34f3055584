"""GET /upstreams and POST /upstreams/refresh."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from apps.core import clock
from apps.upstreams.models import Kind, Upstream, UpstreamHealth
from tests.admin_api.conftest import Caller, permit
from tests.factories import UpstreamFactory
from tests.harness import DemoServer

NOBODY = "http://127.0.0.1:9/v1"


def put(slug: str, base_url: str = NOBODY, secret: str = "", **fields: Any) -> Upstream:
    row: Upstream = UpstreamFactory.build(slug=slug, base_url=base_url, **fields)
    row.secret = secret
    row.save()
    return row


def seen(row: Upstream, worker: str, state: str, reason: str = "", **fields: Any) -> UpstreamHealth:
    now = clock.now()
    said = {"state": state, "reason": reason, "since": now, "seen_at": now, **fields}
    return UpstreamHealth.objects.create(upstream=row, worker=worker, **said)


def names(answer: Any) -> list[str]:
    return [one["name"] for one in answer["data"]]


def test_upstream_is_told_with_how_it_fares_for_every_worker(admin: Caller) -> None:
    row = put("box", kind=Kind.VLLM, default_model="m", is_default=True)
    since = clock.now() - timedelta(minutes=2)
    seen(row, "a:1", "down", "Nothing listens there.", since=since, running=2, waiting=1)
    seen(row, "b:1", "down", "Nothing listens there.", since=since + timedelta(seconds=9))
    seen(row, "c:1", "healthy", seen_at=clock.now() - timedelta(seconds=40))  # it is silent, and counts no more

    status, answer = admin.ask("GET", "/upstreams")

    told = since.isoformat().replace("+00:00", "Z")
    later = (since + timedelta(seconds=9)).isoformat().replace("+00:00", "Z")
    for one in [answer["data"][0], *answer["data"][0]["workers"]]:
        one["since"] = one["since"][:23]
    down = {"state": "down", "reason": "Nothing listens there."}
    assert (status, answer["data"]) == (
        200,
        [
            {
                "name": "box",
                "kind": "vllm",
                "base_url": NOBODY,
                "enabled": True,
                "default": True,
                "default_model": "m",
                "exposes_models": False,
                "models": 0,
                "models_read_at": None,
                **down,
                "since": told[:23],
                "workers": [
                    {"worker": "a:1", **down, "since": told[:23], "running": 2, "waiting": 1},
                    {"worker": "b:1", **down, "since": later[:23], "running": 0, "waiting": 0},
                ],
            }
        ],
    )


@pytest.mark.parametrize(
    ("states", "together", "reason"),
    [
        (["healthy", "healthy"], "healthy", ""),
        (["healthy", "down"], "degraded", "Down for 1 of 2 workers: Why."),
        (["degraded", "down"], "degraded", "Down for 1 of 2 workers: Why."),
        (["degraded", "degraded"], "degraded", "Why."),
        (["down", "down"], "down", "Why."),
        ([], "unknown", ""),
    ],
)
def test_state_is_that_of_all_workers_together(admin: Caller, states: list[str], together: str, reason: str) -> None:
    row = put("box")
    for number, state in enumerate(states):
        seen(row, f"w:{number}", state, "" if state == "healthy" else "Why.")

    _, answer = admin.ask("GET", "/upstreams")

    assert [(one["state"], one["reason"]) for one in answer["data"]] == [(together, reason)]


def test_state_without_workers_is_what_was_read_lately(admin: Caller, settings: Any) -> None:
    put("failed", last_error="It is off.", answered_at=clock.now())
    put("long ago", models_read_at=clock.now() - timedelta(seconds=310))
    put("read", models_read_at=clock.now() - timedelta(seconds=290))
    settings.GATEWAY_UPSTREAM_REFRESH = 300

    _, answer = admin.ask("GET", "/upstreams")

    assert [(one["name"], one["state"], one["reason"]) for one in answer["data"]] == [
        ("failed", "down", "It is off."),
        ("long ago", "unknown", "Its models were read 5 minutes ago; no worker that runs has asked it since."),
        ("read", "healthy", ""),
    ]
    settings.GATEWAY_UPSTREAM_REFRESH = 0  # then a reading is news for five minutes
    _, answer = admin.ask("GET", "/upstreams")
    assert [one["state"] for one in answer["data"]] == ["down", "unknown", "healthy"]


def test_nothing_secret_is_told(admin: Caller) -> None:
    put("box", "http://ann:s3cret-of-ann@127.0.0.1:9/v1?token=s3cret-token", secret="sk-s3cret")

    answers = [admin.ask("POST", "/upstreams/refresh"), admin.ask("GET", "/upstreams")]

    assert [status for status, _ in answers] == [200, 200]
    assert "s3cret" not in json.dumps(answers)
    assert answers[1][1]["data"][0]["base_url"] == NOBODY


def test_refresh_reads_all_that_are_enabled_and_says_what_came_of_each(admin: Caller, demo: DemoServer) -> None:
    put("alive", demo.base_url)
    put("dead")
    put("off", demo.base_url, enabled=False)

    status, answer = admin.ask("POST", "/upstreams/refresh")

    assert (status, names(answer)) == (200, ["alive", "dead"])
    assert [(one["models"], one["error"][:35]) for one in answer["data"]] == [
        (["demo"], ""),
        ([], "Nothing listens at http://127.0.0.1"),
    ]
    assert list(Upstream.objects.get(slug="alive").models.values_list("name", flat=True)) == ["demo"]


def test_refresh_of_one_reads_no_other(admin: Caller, demo: DemoServer) -> None:
    put("one", demo.base_url, enabled=False)
    put("other", demo.base_url)

    status, answer = admin.ask("POST", "/upstreams/refresh", {"name": "one"})

    assert (status, names(answer)) == (200, ["one"])
    assert Upstream.objects.get(slug="other").models_read_at is None


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"name": "nothing"}, 404, "name"),
        ({"nmae": "box"}, 400, "nmae"),
        ({"name": 3}, 400, "name"),
        ({"name": "x" * 201}, 400, "name"),
    ],
)
def test_refresh_of_what_is_none_is_refused(admin: Caller, body: Any, status: int, param: str) -> None:
    code, answer = admin.ask("POST", "/upstreams/refresh", body)

    assert (code, answer["error"]["param"]) == (status, param)


def test_staff_need_the_permission(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    assert client.get("/upstreams").status_code == 403
    permit(staff, "upstreams.view_upstream")
    assert client.get("/upstreams").status_code == 200
    assert client.post("/upstreams/refresh").status_code == 403


@pytest.mark.parametrize("rows", [1, 3])
def test_list_costs_the_same_for_any_number_of_rows(
    admin: Caller, rows: int, django_assert_num_queries: Any, staff: User
) -> None:
    for number in range(rows):
        row = put(f"box-{number}")
        seen(row, "w:1", "healthy")
    permit(staff, "upstreams.view_upstream")
    admin.client.force_login(staff)
    admin.headers = {}
    admin.ask("GET", "/upstreams")
    with django_assert_num_queries(6):  # session, user and permissions; then the rows, and how they fare
        assert admin.client.get("/upstreams").status_code == 200
