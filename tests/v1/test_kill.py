"""A server process that is killed under load: what it takes with it, and that the next one says so."""

import contextlib
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


def lines(gateway: GatewayServer, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in [*gateway.output, *gateway.errors] if f'"{event}"' in line]
    return [one for one in found if one["event"] == event]


def test_killed_process_takes_the_last_second_of_runs_and_the_next_one_says_how_many(
    start_gateway: Callable[..., GatewayServer],
) -> None:
    gateway = start_gateway({"Plain": PLAIN})
    answered: list[tuple[str, float]] = []
    stop = Event()
    clients = [Thread(target=lambda: answered.extend(load(gateway, stop))) for _ in range(CLIENTS)]
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
