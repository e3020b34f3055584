"""A client that leaves: its run ends, the upstream's connection closes, a Run row says `cancelled`."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.harness import DemoServer, FaultyServer, GatewayServer, eventually
from tests.harness.asking import ask_whole

LONG = "[[words=1000]] [[delay=0.05]]"  # 50 seconds


def send(
    gateway: GatewayServer, agent: str, asked: str, identifier: str, *, stream: bool
) -> http.client.HTTPConnection:
    """A request whose connection the test can close."""
    body = json.dumps({"model": agent, "messages": [{"role": "user", "content": asked}], "stream": stream})
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=30)
    headers = {"x-api-key": gateway.key, "content-type": "application/json", "x-request-id": identifier}
    connection.request("POST", "/v1/chat/completions", body, headers)
    return connection


def leave(connection: http.client.HTTPConnection) -> None:
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


@pytest.fixture(autouse=True)
def _idle(demo: DemoServer) -> Any:
    demo.wait_until_idle()
    yield
    demo.wait_until_idle()


def test_leaving_in_mid_stream_cancels_run_and_upstream(gateway: GatewayServer, demo: DemoServer) -> None:
    cancelled = demo.stats()["cancelled"]
    connection = send(gateway, "default/plain", LONG, "cancel-stream", stream=True)
    answer = connection.getresponse()
    while b"word3" not in answer.readline():
        pass

    answer.close()
    leave(connection)

    eventually(demo.active, 0)
    assert demo.stats()["cancelled"] == cancelled + 1
    run = gateway.wait_for_run(request_id="cancel-stream")
    assert (run["outcome"], run["finish_reason"], run["error_code"], run["streamed"]) == ("cancelled", "", "", True)
    assert (run["model_calls"], run["tokens_estimated"]) == (1, True)  # the call was cut short: nobody told its usage
    assert 3 <= run["completion_tokens"] < 900
    assert run["prompt_tokens"] > 0


def test_leaving_while_waiting_for_a_whole_answer_cancels_run_and_upstream(
    gateway: GatewayServer, demo: DemoServer
) -> None:
    cancelled = demo.stats()["cancelled"]
    connection = send(gateway, "default/plain", LONG, "cancel-whole", stream=False)
    eventually(demo.active, 1)

    leave(connection)

    eventually(demo.active, 0)
    assert demo.stats()["cancelled"] == cancelled + 1
    run = gateway.wait_for_run(request_id="cancel-whole")
    assert (run["outcome"], run["finish_reason"], run["streamed"]) == ("cancelled", "", False)


def test_leaving_before_the_first_event_cancels(gateway: GatewayServer, faulty: FaultyServer) -> None:
    """The upstream has not sent its headers yet."""
    connection = send(gateway, "patient/slow-headers", "Hi", "cancel-early", stream=True)
    eventually(faulty.active, 1)

    leave(connection)

    eventually(faulty.active, 0)
    run = gateway.wait_for_run(request_id="cancel-early")
    assert (run["outcome"], run["error_code"]) == ("cancelled", "")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_leaving_while_an_async_tool_runs_cancels_the_tool(
    gateway: GatewayServer, tmp_path: Path, stream: bool
) -> None:
    identifier = f"cancel-tool-{stream}"
    flag = tmp_path / "flag"
    asked = f"[[tool=linger]] [[args={json.dumps({'path': str(flag)})}]]"
    connection = send(gateway, "default/waiting", asked, identifier, stream=stream)
    eventually(flag.with_suffix(".started").exists, True)

    leave(connection)

    eventually(flag.with_suffix(".cancelled").exists, True)
    assert gateway.wait_for_run(request_id=identifier)["outcome"] == "cancelled"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_leaving_a_workflow_cancels_the_runs_that_it_started(
    gateway: GatewayServer, demo: DemoServer, stream: bool
) -> None:
    identifier = f"cancel-workflow-{stream}"
    connection = send(gateway, "default/workflownoreturn", LONG, identifier, stream=stream)
    eventually(demo.active, 1)

    leave(connection)

    eventually(demo.active, 0)
    assert gateway.wait_for_run(request_id=identifier)["outcome"] == "cancelled"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_leaving_cancels_the_run_that_a_tool_started_itself(
    gateway: GatewayServer, demo: DemoServer, stream: bool
) -> None:
    identifier = f"cancel-nested-{stream}"
    asked = '[[tool=translate]] [[args={"input": "[[words=1000]] [[delay=0.05]]"}]]'
    before = demo.stats()["started"]
    connection = send(gateway, "default/astool", asked, identifier, stream=stream)
    eventually(lambda: (demo.stats()["started"] - before, demo.active()), (2, 1))

    leave(connection)

    eventually(demo.active, 0)
    assert gateway.wait_for_run(request_id=identifier)["outcome"] == "cancelled"


def test_closing_the_official_clients_stream_cancels(client: openai.OpenAI, demo: DemoServer) -> None:
    messages: Any = [{"role": "user", "content": LONG}]

    with client.chat.completions.create(model="default/plain", messages=messages, stream=True) as stream:
        next(iter(stream))
        eventually(demo.active, 1)

    eventually(demo.active, 0)


def test_many_that_leave_at_once_leave_nothing_behind(
    gateway: GatewayServer, client: openai.OpenAI, demo: DemoServer
) -> None:
    errors = gateway.log(level="error")
    connections = [send(gateway, "default/plain", LONG, f"cancel-many-{n}", stream=n % 2 == 0) for n in range(20)]
    eventually(demo.active, 20)

    for connection in connections:
        leave(connection)

    eventually(demo.active, 0)
    eventually(lambda: gateway.operator.count_runs(request_id__startswith="cancel-many-", outcome="cancelled"), 20)
    assert ask_whole(client, "default/plain", "[[say=Still here.]]").content == "Still here."
    assert gateway.log(level="error") == errors


def test_leaving_half_way_through_the_request_is_no_error(gateway: GatewayServer, client: openai.OpenAI) -> None:
    errors = gateway.log(level="error")
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nx-api-key: {gateway.key}\r\n"
        connection.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())

    assert ask_whole(client, "default/plain", "[[say=Still here.]]").content == "Still here."
    assert gateway.log(level="error") == errors
