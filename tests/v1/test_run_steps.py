"""Runs as steps: what they did, inside what, for how long, and what came of it."""

import contextlib
import json
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole
from tests.v1.test_cancel import leave, send

Step = dict[str, Any]
TOLD = ("kind", "name", "parent", "outcome")


def steps_of(gateway: GatewayServer, request_id: str) -> list[Step]:
    """Those of the run of this request, once it and they are written."""
    run = gateway.wait_for_run(request_id=request_id)
    eventually(lambda: bool(gateway.operator.rows("execution.RunStep", run_id=run["id"])), True)
    rows: list[Step] = gateway.operator.rows("execution.RunStep", run_id=run["id"])
    assert [one["number"] for one in rows] == list(range(1, len(rows) + 1))
    assert {one["run_started_at"] for one in rows} == {run["started_at"]}
    for one in rows:
        assert 0 <= one["began_ms"] <= one["began_ms"] + one["duration_ms"] <= run["duration_ms"] + 1
    return rows


def told(steps: list[Step]) -> list[tuple[Any, ...]]:
    return [tuple(one[name] for name in TOLD) for one in steps]


@pytest.mark.parametrize(
    ("agent", "asked", "expected"),
    [
        ("plain", "Hi", [("agent", "Plain Speaker", None, "ok"), ("model", "demo", 1, "ok")]),
        (
            "nested",
            '[[tool=research]] [[args={"topic": "x"}]]',
            [
                ("agent", "Outer", None, "ok"),
                ("model", "demo", 1, "ok"),
                ("tool", "research", 1, "ok"),
                ("agent", "Inner", 3, "ok"),
                ("model", "demo", 4, "ok"),
                ("model", "demo", 1, "ok"),
            ],
        ),
        (
            "nestedsync",  # in a thread, in an event loop of its own
            '[[tool=research]] [[args={"topic": "x"}]]',
            [
                ("agent", "Outer", None, "ok"),
                ("model", "demo", 1, "ok"),
                ("tool", "research", 1, "ok"),
                ("agent", "Inner", 3, "ok"),
                ("model", "demo", 4, "ok"),
                ("model", "demo", 1, "ok"),
            ],
        ),
        (
            "triage",
            'My invoice! [[tool=find_invoice]] [[args={"number": 7}]]',
            [
                ("agent", "Triage", None, "ok"),
                ("model", "demo", 1, "ok"),
                ("handoff", "Billing", 1, "ok"),
                ("agent", "Billing", None, "ok"),
                ("model", "demo", 4, "ok"),
                ("tool", "find_invoice", 4, "ok"),
                ("model", "demo", 4, "ok"),
            ],
        ),
        (
            "guardblocking",
            "secret",
            [("agent", "Guarded", None, "refused"), ("guardrail", "no_secrets", 1, "tripped")],
        ),
        (
            "workflow",
            "Hi",
            [
                ("agent", "Classifier", None, "ok"),
                ("model", "demo", 1, "ok"),
                ("agent", "Answerer", None, "ok"),
                ("model", "demo", 3, "ok"),
            ],
        ),
        (
            "plain",
            "[[tool=imagined]]",
            [
                ("agent", "Plain Speaker", None, "ok"),
                ("model", "demo", 1, "ok"),
                ("tool", "imagined", 1, "missing"),
                ("model", "demo", 1, "ok"),
            ],
        ),
    ],
    ids=["agent", "tool's own run", "in a thread", "handoff", "guardrail", "workflow", "invented tool"],
)
def test_steps_tell_what_a_run_did(
    gateway: GatewayServer, client: openai.OpenAI, request: Any, agent: str, asked: str, expected: list[Any]
) -> None:
    identifier = "steps-" + re.sub(r"\W", "-", request.node.name)
    ask_whole(client, f"default/{agent}", asked, extra_headers={"x-request-id": identifier})

    assert told(steps_of(gateway, identifier)) == expected


def test_steps_say_what_they_used(gateway: GatewayServer, client: openai.OpenAI, ask: Ask, request: Any) -> None:
    identifier = "steps-used-" + ask.__name__
    ask(client, "default/tools", '[[tool=add]] [[args={"a": 1, "b": 2}]]', extra_headers={"x-request-id": identifier})

    _, first, tool, last = steps_of(gateway, identifier)
    assert 0 < first["detail"].pop("first_event_ms") <= first["duration_ms"] + 1
    assert first["detail"].pop("prompt_tokens") > 20
    assert first["detail"] == {"upstream": "llm", "completion_tokens": 5, "finish_reason": "tool_calls"}
    assert tool["detail"] == {"source": "sdk-native", "module": "agents.tools.agent"}
    assert last["detail"]["finish_reason"] == "stop"
    assert {one["input"] + one["output"] for one in (first, tool, last)} == {""}


def test_tools_that_run_at_once_overlap(gateway: GatewayServer, client: openai.OpenAI, tmp_path: Path) -> None:
    paths = {name: str(tmp_path / name) for name in ("block", "linger")}
    calls = " ".join(f"[[tool={name}]] [[args={json.dumps({'path': path})}]]" for name, path in paths.items())
    asking = threading.Thread(
        target=ask_whole, args=(client, "default/waiting", calls), kwargs={"extra_headers": {"x-request-id": "both"}}
    )
    asking.start()
    for path in paths.values():
        eventually(Path(f"{path}.started").exists, True, within=20)
    for path in paths.values():
        Path(f"{path}.go").touch()
    asking.join()

    first, second = [one for one in steps_of(gateway, "both") if one["kind"] == "tool"]
    assert second["began_ms"] < first["began_ms"] + first["duration_ms"]
    assert first["parent"] == second["parent"] == 1


def test_steps_of_a_client_that_leaves_are_cancelled(gateway: GatewayServer, tmp_path: Path) -> None:
    path = str(tmp_path / "left")
    asked = f"[[tool=linger]] [[args={json.dumps({'path': path})}]]"
    connection = send(gateway, "default/waiting", asked, "steps-left", stream=True)
    eventually(Path(f"{path}.started").exists, True, within=20)
    leave(connection)

    assert [(one["kind"], one["outcome"]) for one in steps_of(gateway, "steps-left")] == [
        ("agent", "cancelled"),
        ("model", "ok"),
        ("tool", "cancelled"),
    ]


def test_failed_call_says_what_went_wrong(gateway: GatewayServer, client: openai.OpenAI) -> None:
    with contextlib.suppress(openai.APIStatusError):
        ask_whole(client, "faulty/status-500", "Hi", extra_headers={"x-request-id": "steps-failed"})

    agent, model = steps_of(gateway, "steps-failed")
    assert (agent["outcome"], model["outcome"]) == ("error", "error")
    assert "'faulty'" in model["error"]
    assert agent["error"] == f"Error in agent run: {model['error']}"
    assert model["detail"]["attempts"] == 2


def test_failed_tool_says_what_it_raised_though_its_model_does_not_hear_it(
    gateway: GatewayServer, client: openai.OpenAI
) -> None:
    asked = '[[tool=get_weather]] [[args={"city": "Oz"}]]'
    ask_whole(client, "default/softfailingtool", asked, extra_headers={"x-request-id": "steps-tool-failed"})

    tool = steps_of(gateway, "steps-tool-failed")[2]
    assert (tool["name"], tool["outcome"], tool["error"]) == ("get_weather", "error", "RuntimeError: no such city")


def test_run_of_one_model_call_has_the_step_that_its_row_tells_of(passing: GatewayServer) -> None:
    ask_whole(passing.openai(), "raw/ok", "Hi", extra_headers={"x-request-id": "steps-passed"})

    run = passing.wait_for_run(request_id="steps-passed")
    assert run["is_plain"]
    assert passing.operator.rows("execution.RunStep", run_id=run["id"]) == []
    key = passing.operator.issue_key("steps", may_administer=True)["credential"]
    path, headers = f"/admin/runs/{run['id']}", {"x-api-key": key}
    eventually(lambda: passing.request("GET", path, headers=headers).status, 200)
    (step,) = passing.request("GET", path, headers=headers).json()["steps"]
    assert told([step]) == [("model", "ok", None, "ok")]
    assert (step["duration_ms"], step["detail"]["prompt_tokens"]) == (run["duration_ms"], run["prompt_tokens"])


# --- a gateway that records contents, and whose environment would have the SDK send its traces to OpenAI --------------

SECRETIVE = '''"""A tool that answers with what should not be kept, and one that a person has to approve."""

from agents import Agent, function_tool


@function_tool
def look_up(user: str) -> str:
    """Look up."""
    return "password: hunter2hunter2; Authorization: Bearer abcdefghijklmnop; ok. " + "x" * 500


@function_tool(needs_approval=True)
def launch() -> str:
    """Launch."""
    return "Launched."


agent = Agent(name="Secretive", instructions="Use your tools.", tools=[look_up, launch])
'''

STOCK = """
from agents import custom_span, trace
from agents.tracing import get_trace_provider
with trace("stock"):
    with custom_span("span"):
        pass
get_trace_provider().force_flush()
"""


class Proxy(socketserver.ThreadingTCPServer):
    """Hears where HTTPS goes, and lets nothing through."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), self._Handler)

    class _Handler(socketserver.StreamRequestHandler):
        server: "Proxy"

        def handle(self) -> None:
            self.server.asked.append(self.rfile.readline().decode().split(" HTTP")[0])
            with contextlib.suppress(OSError):
                self.request.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                self.request.shutdown(socket.SHUT_WR)

    @property
    def environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.server_address[1]}"
        return {"HTTPS_PROXY": url, "https_proxy": url, "OPENAI_API_KEY": "sk-of-the-tests-0123456789"}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory, template: Template, proxy: Proxy) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("recorder")
    write_source(folder / "agents" / "Secretive", SECRETIVE)
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **proxy.environment) as server:
        server.operator.make("execution.Recording", id=1, record_contents=True, contents_characters=200)
        server.operator.put_upstream("llm", secret="a secret of the upstream")
        yield server


def ask_recorded(recorder: GatewayServer, ask: Ask, asked: Any, identifier: str) -> list[Step]:
    ask(recorder.openai(), "default/secretive", asked, extra_headers={"x-request-id": identifier})
    return steps_of(recorder, identifier)


def test_contents_are_kept_without_secrets_and_not_too_long(recorder: GatewayServer, ask: Ask) -> None:
    asked = 'My key is a secret of the upstream. [[tool=look_up]] [[args={"user": "Ann"}]]'

    def recorded(name: str) -> list[Step]:
        return ask_recorded(recorder, ask, asked, f"contents-{ask.__name__}-{name}")

    attempts = (recorded(str(number)) for number in count())
    eventually(lambda: bool(next(attempts)[1]["input"]), True)  # the setting is in force
    _, model, tool, last = recorded("kept")
    assert model["input"] == ('system: Use your tools.\nuser: My key is •••. [[tool=look_up]] [[args={"user": "Ann"}]]')
    assert model["output"] == '→ look_up {"user": "Ann"}'
    assert tool["input"] == '{"user": "Ann"}'
    assert tool["output"].startswith("password: •••; Authorization: •••; ok. xxx")
    assert re.search(r"x\n\[… \d+ characters left out …\]$", tool["output"])
    assert "hunter2" not in last["input"]
    assert last["input"].endswith("x" * 100)
    assert last["output"] != ""


def test_approval_is_a_step_of_both_runs(recorder: GatewayServer) -> None:
    asked: list[Any] = [{"role": "user", "content": "[[tool=launch]]"}]
    waiting = ask_whole(recorder.openai(), "default/secretive", asked, extra_headers={"x-request-id": "approval-1"})
    asked += [{"role": "assistant", "content": waiting.content}, {"role": "user", "content": "approve"}]
    ask_whole(recorder.openai(), "default/secretive", asked, extra_headers={"x-request-id": "approval-2"})

    first, second = steps_of(recorder, "approval-1"), steps_of(recorder, "approval-2")
    assert told(first)[2:] == [("approval", "launch", None, "waiting")]
    assert ("approval", "launch", None, "approved") in told(second)
    assert ("tool", "launch", "ok") in [(kind, name, outcome) for kind, name, _, outcome in told(second)]
    (reference,) = {one["detail"]["reference"] for one in first + second if one["kind"] == "approval"}
    assert reference in waiting.content


def test_no_trace_leaves_for_openai(recorder: GatewayServer, proxy: Proxy) -> None:
    """With an API key the SDK's default sends every trace, at the latest when its process ends."""
    ask_whole(recorder.openai(), "default/secretive", "Hi", extra_headers={"x-request-id": "untraced"})
    assert len(steps_of(recorder, "untraced")) == 2
    recorder.stop()
    assert proxy.asked == []

    subprocess.run(
        [sys.executable, "-c", STOCK], env={**proxy.environment}, check=True, timeout=60, capture_output=True
    )
    assert set(proxy.asked) == {"CONNECT api.openai.com:443"}
