"""Guessing keys from one address: slow after the thirtieth in a minute, in few log lines, and nobody else's trouble."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually

PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'
GUESSES = 40


def ask(
    server: GatewayServer,
    path: str,
    key: str,
    address: str,
    *,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, float, dict[str, str]]:
    """Status, seconds and headers, asked from this loopback address."""
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, source_address=(address, 0), timeout=30)
    given = {"x-api-key": key, "content-type": "application/x-www-form-urlencoded", **(headers or {})}
    began = time.perf_counter()
    try:
        connection.request("POST" if form else "GET", path, body=urlencode(form) if form else None, headers=given)
        answer = connection.getresponse()
        answer.read()
        return answer.status, time.perf_counter() - began, {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def start_of_a_minute() -> None:
    """Counts begin anew with every minute of the monotonic clock, which all processes share."""
    if (gone := time.monotonic() % 60) > 45:
        time.sleep(60 - gone)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    """Of its own: no other test's failures count. Each test here comes from an address of its own."""
    folder = tmp_path_factory.mktemp("brute-force")
    write_source(folder / "agents" / "Plain", PLAIN)
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        yield server


def test_guesses_beyond_thirty_are_slow_and_a_good_key_from_there_is_not(server: GatewayServer) -> None:
    start_of_a_minute()

    guesses = [ask(server, "/v1/models", f"agw_guess_{number:020}", "127.0.7.1") for number in range(GUESSES)]
    good = ask(server, "/v1/models", server.key, "127.0.7.1")
    other = ask(server, "/v1/models", "agw_guess", "127.0.7.2")

    assert [status for status, _, _ in guesses] == [401] * GUESSES
    times = [seconds for _, seconds, _ in guesses]
    assert (median(times[:30]) < 0.25, min(times[30:]) >= 0.5) == (True, True)
    assert [(status, seconds < 0.5) for status, seconds, _ in (good, other)] == [(200, True), (401, True)]
    server.wait_for_log(event="authentication_failed", address="127.0.7.2")
    counts = [line["count"] for line in server.log(event="authentication_failed", address="127.0.7.1")]
    assert counts == [1, 2, 3, 4, 8, 16, 32]
    lines = server.log(event="request_finished", status=401, path="/v1/models")
    assert len(lines) == len(server.log(event="authentication_failed"))
    assert "agw_guess" not in "\n".join(server.errors)


def test_operators_door_refuses_many_and_never_a_good_key(server: GatewayServer) -> None:
    key = server.operator.issue_key("Operator", may_administer=True)["credential"]
    eventually(lambda: ask(server, "/security/overrides", key, "127.0.7.9")[0], 200)
    start_of_a_minute()

    guesses = [ask(server, "/security/overrides", f"agw_guess_{n}", "127.0.7.3") for n in range(GUESSES)]
    good = ask(server, "/security/overrides", key, "127.0.7.3")

    assert [status for status, _, _ in guesses] == [401] * 30 + [429] * 10
    assert [1 <= int(headers["retry-after"]) <= 60 for _, _, headers in guesses[30:]] == [True] * 10
    assert good[0] == 200
    lines = [line for line in server.errors if "/security/overrides" in line]
    assert lines == []
    assert counted(server, key)["unknown"] >= GUESSES


def test_many_guesses_at_once_hold_nobody_up(server: GatewayServer) -> None:
    start_of_a_minute()

    with ThreadPoolExecutor(50) as threads:
        began = time.perf_counter()
        guesses = [threads.submit(ask, server, "/v1/models", f"agw_{n}", "127.0.7.4") for n in range(300)]
        while not all(guess.done() for guess in guesses):
            status, seconds, _ = ask(server, "/v1/models", server.key, "127.0.7.5")
            assert (status, seconds < 0.5) == (200, True)
        took = time.perf_counter() - began

    assert {guess.result()[0] for guess in guesses} == {401}
    assert took >= 2  # 270 slow ones, 50 at a time


def counted(server: GatewayServer, key: str) -> dict[str, float]:
    answer = server.request("GET", "/metrics/prometheus", headers={"x-api-key": key})
    families: Any = text_string_to_metric_families(answer.body.decode())
    name = "gateway_authentication_failures_total"
    return {one.labels["reason"]: one.value for family in families for one in family.samples if one.name == name}


def test_failures_are_counted_by_their_reason(server: GatewayServer) -> None:
    expired = server.operator.issue_key("Expired", expires_in=-1)["credential"]
    key = server.operator.issue_key("Operator", may_administer=True)["credential"]  # once it is live, both are
    eventually(lambda: ask(server, "/metrics/prometheus", key, "127.0.7.9")[0], 200)
    before = counted(server, key)

    server.request("GET", "/v1/models")
    for credential in (expired, "agw_wrong"):
        server.request("GET", "/v1/models", headers={"x-api-key": credential})

    after = counted(server, key)
    assert {reason: after[reason] - before.get(reason, 0) for reason in after} == {
        "missing": 1,
        "expired": 1,
        "unknown": 1,
    }


def test_wrong_key_is_told_as_json_by_both_doors(server: GatewayServer) -> None:
    for path in ("/v1/models", "/security/overrides"):
        answer = server.request("GET", path, headers={"x-api-key": "agw_wrong"})

        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (401, "invalid_api_key")


def test_neither_password_nor_user_name_of_a_failed_login_is_logged(server: GatewayServer) -> None:
    page = server.request("GET", "/admin/login/")
    cookie = page.headers["set-cookie"].partition(";")[0]
    form = {"username": "a-password-by-mistake", "password": "a-wrong-password"}
    token = {"csrfmiddlewaretoken": cookie.partition("=")[2]}

    status, _, _ = ask(server, "/admin/login/", "", "127.0.7.6", form=form | token, headers={"cookie": cookie})

    assert status == 200
    server.wait_for_log(event="authentication_failed", reason="password", address="127.0.7.6")
    assert [word for word in form.values() if word in "\n".join(server.errors)] == []
