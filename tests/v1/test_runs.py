"""Run rows: what they say, and that none is lost."""

import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import openai

from tests.harness import GatewayServer, eventually
from tests.harness.asking import ask_streamed, ask_whole

PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'


def test_run_row_says_what_was_run(gateway: GatewayServer, client: openai.OpenAI) -> None:
    key = gateway.operator.issue_key("runs")
    client = gateway.openai(key["credential"])
    eventually(lambda: gateway.request("GET", "/v1/models", headers={"x-api-key": key["credential"]}).status, 200)
    (listed,) = [one for one in client.models.list() if one.id == "default/plain"]

    raw = client.chat.completions.with_raw_response.create(
        model="Plain Speaker",
        messages=[{"role": "user", "content": "[[words=20]]"}],
        extra_headers={"x-request-id": "run-row"},
    )

    answer = raw.parse()
    run = gateway.wait_for_run(request_id="run-row")
    started = datetime.fromisoformat(run.pop("started_at"))
    assert timedelta() < datetime.now(started.tzinfo) - started < timedelta(minutes=1)
    assert 0 < run.pop("first_event_ms") <= run.pop("duration_ms") < 60_000
    digest = run.pop("agent_digest")
    assert (len(digest), digest[:12]) == (64, listed.model_dump()["info"]["meta"]["version"])
    assert run == {
        "id": answer.id,
        "request_id": "run-row",
        "trace_id": answer.id.removeprefix("chatcmpl-"),
        "agent_id": "default/plain",
        "key_id": key["id"],
        "key_name": "runs",
        "user_id": "",
        "user_name": "",
        "upstream": "llm",
        "model": "demo",
        "streamed": False,
        "outcome": "completed",
        "finish_reason": "stop",
        "error_code": "",
        "error": "",
        "model_calls": 1,
        "is_plain": False,
        "prompt_tokens": 15,
        "completion_tokens": 20,
        "tokens_estimated": False,
        "cost_usd": None,  # the model has no price
    }


def test_run_row_of_a_stream_bears_the_chunks_id(gateway: GatewayServer, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="default/plain",
        messages=[{"role": "user", "content": "[[words=3]]"}],
        stream=True,
        extra_headers={"x-request-id": "run-row-streamed"},
    )
    (id,) = {chunk.id for chunk in stream}

    run = gateway.wait_for_run(request_id="run-row-streamed")
    assert (run["id"], run["streamed"], run["completion_tokens"]) == (id, True, 3)


def test_run_row_of_a_declined_request_says_refused(gateway: GatewayServer, client: openai.OpenAI) -> None:
    ask_whole(client, "default/guardblocking", "secret", extra_headers={"x-request-id": "run-row-refused"})

    run = gateway.wait_for_run(request_id="run-row-refused")
    assert (run["outcome"], run["finish_reason"], run["model_calls"], run["upstream"]) == (
        "refused",
        "content_filter",
        0,
        "",
    )


def test_run_row_is_not_written_for_what_reached_no_agent(gateway: GatewayServer) -> None:
    body = b'{"model": "default/disabled", "messages": [{"role": "user", "content": "Hi"}]}'
    gateway.with_key("POST", "/v1/chat/completions", body=body, x_request_id="run-none")
    gateway.with_key("POST", "/v1/chat/completions", body=body.replace(b"disabled", b"plain"), x_request_id="run-one")

    gateway.wait_for_run(request_id="run-one")
    assert gateway.operator.count_runs(request_id="run-none") == 0


def test_run_is_logged_with_the_request_id(gateway: GatewayServer, client: openai.OpenAI) -> None:
    ask_streamed(client, "default/plain", "[[words=20]]", extra_headers={"x-request-id": "run-log"})

    line = gateway.wait_for_log(event="run_finished", request_id="run-log")
    facts = {name: line[name] for name in ("agent", "upstream", "model", "outcome", "tokens")}
    assert facts == {"agent": "default/plain", "upstream": "llm", "model": "demo", "outcome": "completed", "tokens": 35}


def test_chat_needs_no_database_and_its_row_is_written_when_it_can_be(
    gateway: GatewayServer, client: openai.OpenAI
) -> None:
    """Another process holds the database for itself."""
    other = sqlite3.connect(gateway.folder / "gateway.sqlite3", isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")
        for ask in (ask_whole, ask_streamed):
            headers = {"x-request-id": f"locked-{ask.__name__}"}
            assert ask(client, "default/tools", "[[say=Free.]]", extra_headers=headers).content == "Free."
        other.execute("ROLLBACK")

    for ask in (ask_whole, ask_streamed):
        assert gateway.wait_for_run(request_id=f"locked-{ask.__name__}")["outcome"] == "completed"


def test_runs_survive_a_stop_under_load(start_gateway: Callable[..., GatewayServer]) -> None:
    """SIGTERM while twenty clients ask without pause: whoever was answered has a row, and answers under way end."""
    gateway = start_gateway({"Plain": PLAIN})
    numbers = count()

    def ask_until_refused(which: int) -> list[str]:
        client = gateway.openai()
        answered = []
        ask = ask_streamed if which % 2 else ask_whole
        while True:
            identifier = f"stop-{next(numbers)}"
            headers: Any = {"x-request-id": identifier}
            try:
                told = ask(client, "default/plain", "[[words=30]]", extra_headers=headers)
            except openai.APIConnectionError:
                return answered
            assert told.usage[1] == 30
            answered.append(identifier)

    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(ask_until_refused, number) for number in range(20)]
        eventually(lambda: len(gateway.log(event="run_finished")) > 200, True, within=60)
        gateway.stop()
        answered = [identifier for one in asking for identifier in one.result()]

    rows = gateway.operator.runs(request_id__startswith="stop-")
    completed = [row["request_id"] for row in rows if row["outcome"] == "completed"]
    assert sorted(completed) == sorted(answered)
    assert [line["runs_lost"] for line in gateway.log(event="worker_stopped")] == [0]
    gateway.operator._stop()


def test_stop_lets_a_stream_under_way_end(start_gateway: Callable[..., GatewayServer]) -> None:
    gateway = start_gateway({"Plain": PLAIN})
    messages: Any = [{"role": "user", "content": "[[words=40]] [[delay=0.05]]"}]
    stream = iter(gateway.openai().chat.completions.create(model="plain", messages=messages, stream=True))
    next(stream)

    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(gateway.stop)
        rest = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
        stopping.result()

    assert rest == " ".join(f"word{number}" for number in range(1, 41))
    (run,) = gateway.operator.runs()
    gateway.operator._stop()
    assert (run["outcome"], run["completion_tokens"]) == ("completed", 40)
