"""Limits at the door: what a client is told, what counts and what does not, in one process and in two."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import write_agent, write_source
from tests.harness import DemoServer, GatewayServer, RedisServer, Template, eventually
from tests.harness.gateway import run_manage
from tests.harness.process_table import children
from tests.v1.test_cancel import leave

HI: Any = [{"role": "user", "content": "[[say=Hello.]]"}]
LONG = "[[words=1000]] [[delay=0.05]]"  # 50 seconds
FAILING = "from agents import Agent\n\nagent = Agent(name='F', instructions='x', model='down/any')\n"
_numbers = count(1)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    """One process. Each test has keys and limits of its own."""
    folder = tmp_path_factory.mktemp("rate-limits")
    write_agents(folder / "agents")
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        yield server


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, template: Template, two_workers: Callable[[], dict[str, str]]
) -> Iterator[GatewayServer]:
    """Two processes that count in Redis."""
    folder = tmp_path_factory.mktemp("rate-limits-of-two")
    write_agents(folder / "agents")
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **two_workers()) as server:
        eventually(lambda: len(server.log(event="worker_started")), 2, within=30)
        yield server


@pytest.fixture(params=["limited", "pair"])
def either(request: pytest.FixtureRequest) -> GatewayServer:
    """What holds has to hold in both."""
    server: GatewayServer = request.getfixturevalue(request.param)
    return server


def write_agents(folder: Path) -> None:
    write_agent(folder / "Plain", model="demo")
    write_agent(folder / "Other", model="demo")
    write_source(folder / "Failing", FAILING)


def limited_key(gateway: GatewayServer, *limits: dict[str, Any], **key: Any) -> dict[str, Any]:
    """A key with these limits; every request to every worker already meets them."""
    issued: dict[str, Any] = gateway.operator.issue_key(f"limited {next(_numbers)}", **key)
    issued["limits"] = [gateway.operator.put_limit(key_id=issued["id"], **limit) for limit in limits]
    wait_for_configuration(gateway)
    return issued


def wait_for_configuration(gateway: GatewayServer) -> None:
    """Snapshots are whole: where a key of now is known, everything before it is in force. Both workers are met."""
    last = gateway.operator.issue_key(f"marker {next(_numbers)}")["credential"]

    def statuses() -> set[int]:
        with ThreadPoolExecutor(8) as pool:
            asked = pool.map(lambda _: gateway.request("GET", "/v1/models", headers={"x-api-key": last}), range(24))
            return {answer.status for answer in asked}

    eventually(statuses, {200})


def ask(gateway: GatewayServer, key: dict[str, Any], agent: str = "default/plain", **headers: str) -> tuple[int, str]:
    """The status, and what ran out."""
    body = json.dumps({"model": agent, "messages": HI}).encode()
    given = {"x-api-key": key["credential"], "content-type": "application/json", **headers}
    answer = gateway.request("POST", "/v1/chat/completions", body=body, headers=given)
    return answer.status, "" if answer.status == 200 else answer.error["type"]


def early_in_the_minute(seconds: float) -> None:
    """Tokens are counted by the minute of the clock: wait for the next one if fewer than `seconds` are left."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left)


def open_stream(gateway: GatewayServer, key: dict[str, Any], request_id: str = "") -> http.client.HTTPConnection:
    """A run under way, whose client the test can let leave."""
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=30)
    body = json.dumps({"model": "default/plain", "messages": [{"role": "user", "content": LONG}], "stream": True})
    headers = {"x-api-key": key["credential"], "content-type": "application/json", "x-request-id": request_id}
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    assert answer.status == 200
    while b"word3" not in answer.readline():
        pass
    return connection


# --- what a client is told -------------------------------------------------------------------------------------------


def test_limit_that_is_used_up_raises_the_official_clients_own_error(either: GatewayServer) -> None:
    key = limited_key(either, {"requests_per_minute": 2})
    client = either.openai(key["credential"])
    for _ in range(2):
        client.chat.completions.create(model="default/plain", messages=HI)

    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="default/plain", messages=HI)

    assert caught.value.body == {
        "message": f"The limit of 2 requests (limit-{key['limits'][0]}: per minute and key) is used up.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    headers = caught.value.response.headers
    assert 45 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] in {"1m0s", *(f"{seconds}s" for seconds in range(45, 60))}


@pytest.mark.parametrize("stream", [False, True])
def test_answers_say_what_is_left_of_the_tightest_limit(limited: GatewayServer, stream: bool) -> None:
    early_in_the_minute(10)
    numbers = {"requests_per_minute": 3, "requests_per_day": 100, "tokens_per_minute": 5000}
    key = limited_key(limited, numbers, {"per": "agent", "requests_per_minute": 50})
    create: Any = limited.openai(key["credential"]).chat.completions.with_raw_response.create

    told = [create(model="default/plain", messages=HI, stream=stream).headers for _ in range(3)]

    assert [one["x-ratelimit-limit-requests"] for one in told] == ["3", "3", "3"]
    assert [one["x-ratelimit-remaining-requests"] for one in told] == ["2", "1", "0"]
    assert {one["x-ratelimit-limit-tokens"] for one in told} == {"5000"}
    assert told[0]["x-ratelimit-remaining-tokens"] == "5000"
    assert told[0]["x-ratelimit-reset-tokens"].endswith("s")


def test_failed_answer_says_it_too(limited: GatewayServer) -> None:
    key = limited_key(limited, {"requests_per_minute": 3})

    with pytest.raises(openai.InternalServerError) as caught:
        limited.openai(key["credential"]).chat.completions.create(model="default/failing", messages=HI)

    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "2"


def test_answers_without_a_limit_say_nothing(limited: GatewayServer) -> None:
    answer = limited.openai().chat.completions.with_raw_response.create(model="default/plain", messages=HI)

    assert [name for name in answer.headers if name.startswith("x-ratelimit")] == []


def test_burst_is_refused_and_the_official_client_comes_again_after_it(limited: GatewayServer) -> None:
    key = limited_key(limited, {"burst": 2})
    create: Any = limited.openai(key["credential"], max_retries=3).chat.completions.with_raw_response.create

    answers = [create(model="default/plain", messages=HI) for _ in range(3)]

    assert [answer.retries_taken for answer in answers] == [0, 0, 1]


def test_denial_by_a_limit_is_a_decision_like_any_other(limited: GatewayServer) -> None:
    key = limited_key(limited, {"requests_per_minute": 1})

    assert [ask(limited, key)[0], ask(limited, key)[0]] == [200, 429]

    line = limited.wait_for_log(event="agent.security.decision", key_id=key["id"], code="limit")
    assert (line["outcome"], line["target"]) == ("denied", "default/plain")
    lines = limited.log(event="agent.security.decision", key_id=key["id"])
    assert [line["outcome"] for line in lines] == ["allowed", "denied"]  # one of each request
    refused = limited.wait_for_log(event="request_finished", key_id=key["id"], status=429)
    assert (refused["stage"], refused["agent"]) == ("authorise", "default/plain")


# --- what counts -----------------------------------------------------------------------------------------------------


def test_persons_behind_a_key_are_counted_for_themselves(either: GatewayServer) -> None:
    key = limited_key(either, {"per": "user", "requests_per_minute": 1}, trusts_identity_headers=True)
    ann, bob = ({"X-OpenWebUI-User-Id": name} for name in ("ann", "bob"))

    answers = [ask(either, key, **person)[0] for person in (ann, ann, bob, bob, {}, {})]

    assert answers == [200, 429, 200, 429, 200, 200]


def test_agents_are_counted_for_themselves(either: GatewayServer) -> None:
    key = limited_key(either, {"per": "agent", "requests_per_minute": 1})

    answers = [ask(either, key, agent)[0] for agent in ("default/plain", "default/plain", "default/other")]

    assert answers == [200, 429, 200]


def test_limit_of_the_key_stands_for_that_of_its_team_and_of_everyone(limited: GatewayServer) -> None:
    freed = limited_key(limited, {"agents": "default/plain"}, {"agents": "*", "requests_per_minute": 1})

    assert [ask(limited, freed)[0] for _ in range(3)] == [200, 200, 200]
    assert [ask(limited, freed, "default/other")[0] for _ in range(2)] == [200, 429]


def test_refused_request_counts_nowhere(either: GatewayServer) -> None:
    key = limited_key(either, {"requests_per_minute": 3}, {"per": "agent", "requests_per_minute": 1})

    plain = [ask(either, key)[0] for _ in range(4)]
    other = ask(either, key, "default/other")[0]

    assert (plain, other) == ([200, 429, 429, 429], 200)


def test_tokens_count_when_they_are_known(limited: GatewayServer) -> None:
    early_in_the_minute(10)
    key = limited_key(limited, {"tokens_per_minute": 1})

    assert [ask(limited, key) for _ in range(2)] == [(200, ""), (429, "tokens")]


def test_tokens_count_after_the_client_left_in_mid_stream(either: GatewayServer, demo: DemoServer) -> None:
    key = limited_key(either, {"tokens_per_day": 5})
    request_id = f"left-{key['id']}"

    leave(open_stream(either, key, request_id))

    eventually(lambda: ask(either, key), (429, "tokens"))
    assert either.wait_for_run(request_id=request_id)["outcome"] == "cancelled"
    demo.wait_until_idle()


def test_cost_counts_by_the_price_list(limited: GatewayServer) -> None:
    limited.operator.put_price("de*", prompt_usd=1000, completion_usd=2000)
    key = limited_key(limited, {"usd_per_month": "0.01"})

    assert [ask(limited, key) for _ in range(2)] == [(200, ""), (429, "insufficient_quota")]

    run = limited.wait_for_run(key_id=key["id"])
    expected = run["prompt_tokens"] * 0.001 + run["completion_tokens"] * 0.002
    assert run["cost_usd"] == pytest.approx(expected)
    assert expected > 0.01


@pytest.mark.parametrize("ending", ["the client leaves", "the run fails"])
def test_slot_of_a_run_comes_back_when_it_ends(either: GatewayServer, demo: DemoServer, ending: str) -> None:
    key = limited_key(either, {"concurrent_runs": 1})
    if ending == "the run fails":
        assert ask(either, key, "default/failing")[0] == 502
    else:
        stream = open_stream(either, key)
        assert ask(either, key) == (429, "requests")
        leave(stream)

    eventually(lambda: ask(either, key)[0], 200)
    demo.wait_until_idle()


def test_day_is_remembered_over_a_restart(
    start_gateway: Callable[..., GatewayServer],
) -> None:
    gateway = start_gateway({"Plain": "from agents import Agent\n\nagent = Agent(name='P', instructions='x')\n"})
    key = limited_key(gateway, {"requests_per_day": 2, "tokens_per_day": 1000})
    assert ask(gateway, key)[0] == 200

    gateway.stop()
    gateway.start()

    assert [ask(gateway, key)[0] for _ in range(2)] == [200, 429]


def test_limit_of_now_knows_what_was_used_before_it(either: GatewayServer) -> None:
    key = limited_key(either)
    assert [ask(either, key)[0] for _ in range(2)] == [200, 200]
    eventually(lambda: either.operator.count_runs(key_id=key["id"]), 2)

    either.operator.put_limit(key_id=key["id"], requests_per_day=1000)
    wait_for_configuration(either)

    asked = count(3)
    create: Any = either.openai(key["credential"]).chat.completions.with_raw_response.create

    def told_and_asked() -> int:
        answer = create(model="default/plain", messages=HI)
        return int(answer.headers["x-ratelimit-remaining-requests"]) + next(asked)

    eventually(told_and_asked, 1000)


# --- several workers -------------------------------------------------------------------------------------------------


def test_two_workers_let_through_what_one_would(pair: GatewayServer) -> None:
    key = limited_key(pair, {"requests_per_minute": 17})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: ask(pair, key)[0], range(50)))

    assert (answers.count(200), answers.count(429)) == (17, 33)


def test_slots_of_a_killed_worker_come_back(
    tmp_path: Path, template: Template, two_workers: Callable[[], dict[str, str]], demo: DemoServer
) -> None:
    write_agents(tmp_path / "agents")
    settings = two_workers()
    with GatewayServer(tmp_path / "data", agents=tmp_path / "agents", template=template, **settings) as gateway:
        eventually(lambda: len(gateway.log(event="worker_started")), 2, within=30)
        key = limited_key(gateway, {"concurrent_runs": 1})
        stream = open_stream(gateway, key)
        assert ask(gateway, key) == (429, "requests")

        for pid in worker_pids(gateway.pid):
            os.kill(pid, signal.SIGKILL)
        stream.close()

        eventually(lambda: attempt(gateway, key), 429, within=20)  # served again, and the slot is still held
        eventually(lambda: attempt(gateway, key), 200, within=40)
    demo.wait_until_idle()


def attempt(gateway: GatewayServer, key: dict[str, Any]) -> int | None:
    """The status, or None while nobody serves."""
    try:
        return ask(gateway, key)[0]
    except OSError:
        return None


def worker_pids(parent: int) -> list[int]:
    return sorted(children(parent, "spawn_main"))


def test_store_that_is_down_limits_nobody_and_is_shown(tmp_path: Path, template: Template) -> None:
    if not RedisServer.is_installed():
        pytest.skip("no redis-server to stop")
    write_agents(tmp_path / "agents")
    settings = {"GATEWAY_SECRET_KEY": "a secret of this test alone " * 2}
    with (
        RedisServer(tmp_path) as redis,
        GatewayServer(
            tmp_path / "data", agents=tmp_path / "agents", template=template, REDIS_URL=redis.url, **settings
        ) as gateway,
    ):
        key = limited_key(gateway, {"requests_per_day": 2}, may_administer=True)
        assert [ask(gateway, key)[0] for _ in range(3)] == [200, 200, 429]

        redis.stop()
        began = time.monotonic()
        assert [ask(gateway, key)[0] for _ in range(10)] == [200] * 10
        assert time.monotonic() - began < 8
        ready = gateway.request("GET", "/ready")
        assert (ready.status, ready.json()["reason"].split(":")[0]) == (200, "Limits are not enforced")
        metrics = gateway.request("GET", "/metrics/prometheus", headers={"x-api-key": key["credential"]}).body.decode()
        failures = next(line for line in metrics.splitlines() if line.startswith("gateway_limit_store_failures_total"))
        assert float(failures.split()[1]) >= 10
        assert len(gateway.log(event="limit_store_down")) == 1
        eventually(lambda: gateway.operator.count_runs(key_id=key["id"]), 12)

        redis.start()
        eventually(lambda: ask(gateway, key)[0], 429, within=8)  # also what was used meanwhile counts
        assert gateway.request("GET", "/ready").json() == {"status": "ready", "reason": ""}

        redis.empty()
        assert ask(gateway, key)[0] == 200
        eventually(lambda: ask(gateway, key)[0], 429, within=15)  # filled again from the record of runs


def test_several_workers_without_a_store_are_refused(limited: GatewayServer) -> None:
    environment = {**limited.environment, "GATEWAY_WORKERS": "2"}
    served = run_manage(environment, "serve", "--port", "0", check=False)
    checked = run_manage(environment, "check", check=False)

    told = "Several workers (GATEWAY_WORKERS) need a shared store, or each would count limits for itself."
    assert (served.returncode, checked.returncode) == (1, 1)
    assert told in served.stderr
    assert "REDIS_URL" in served.stderr
    assert f"(access.E001) {told}" in checked.stderr
