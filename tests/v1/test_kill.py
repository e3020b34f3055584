"""A server process that is killed under load: what it takes with it, and that the next one says so."""

import contextlib
import http.client
import json
import signal
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import openai

from tests.harness import GatewayServer, eventually

PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'
CLIENTS = 4
LAST = 1.0  # seconds: half a one of company, and a transaction


def load(gateway: GatewayServer, stop: Event) -> list[tuple[str, float]]:
    """Ids of answers and when they were there, until the server is gone."""
    answered: list[tuple[str, float]] = []
    client = openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0)
    with client, contextlib.suppress(openai.APIConnectionError):
        while not stop.is_set():
            answer = client.chat.completions.create(model="default/plain", messages=[{"role": "user", "content": "Hi"}])
            answered.append((answer.id, time.monotonic()))
    return answered


def configure(gateway: GatewayServer, operator: str, stop: Event) -> list[str]:
    """Names of keys whose issue was acknowledged, until the server is gone."""
    headers = {"x-api-key": operator, "content-type": "application/json"}
    acknowledged: list[str] = []
    with contextlib.suppress(OSError, http.client.HTTPException):
        while not stop.is_set():
            name = f"key {len(acknowledged)}"
            answer = gateway.request("POST", "/admin/keys", body=json.dumps({"name": name}).encode(), headers=headers)
            assert answer.status in (201, 401), answer  # 401 until the gateway has heard of the key
            if answer.status == 201:
                acknowledged.append(name)
    return acknowledged


def lines(gateway: GatewayServer, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in [*gateway.output, *gateway.errors] if f'"{event}"' in line]
    return [one for one in found if one["event"] == event]


def test_killed_process_takes_no_configuration_and_the_last_second_of_runs_and_the_next_one_says_how_many(
    start_gateway: Callable[..., GatewayServer],
) -> None:
    gateway = start_gateway({"Plain": PLAIN})
    answered: list[tuple[str, float]] = []
    issued: list[str] = []
    operator = gateway.operator.issue_key("Operator", may_administer=True)["credential"]
    stop = Event()
    clients = [Thread(target=lambda: answered.extend(load(gateway, stop))) for _ in range(CLIENTS)]
    clients.append(Thread(target=lambda: issued.extend(configure(gateway, operator, stop))))
    for one in clients:
        one.start()
    eventually(lambda: gateway.operator.count_runs() > 50, True, within=30)

    killed_at = time.monotonic()
    gateway.stop(signal.SIGKILL)
    stop.set()
    for one in clients:
        one.join()
    gateway.start()

    recorded = {run["id"] for run in gateway.operator.runs()}
    lost = [at for id, at in answered if id not in recorded]
    assert [killed_at - at for at in lost if killed_at - at > LAST] == []
    assert len(recorded) > 50
    assert issued
    assert set(issued) <= {key["name"] for key in gateway.operator.rows("access.ApiKey")}
    (said,) = lines(gateway, "runs_lost_in_crash")
    assert len(lost) <= said["ended"] <= len(lost) + CLIENTS  # of those, answers were on their way
    (noted,) = eventually_rows(gateway)
    assert f"missing from the record: {said['ended']}." in noted["message"]


def eventually_rows(gateway: GatewayServer) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = gateway.operator.rows("observability.ErrorEvent", code="runs_lost_in_crash")
        return rows

    eventually(lambda: len(read()), 1)
    return read()
