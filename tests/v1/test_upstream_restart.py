"""An LLM server that goes away and comes back, as when its owner loads another model."""

import socket
from pathlib import Path

import openai

from tests.conftest import write_agent
from tests.harness import DemoServer, GatewayServer, eventually
from tests.harness.asking import ask_streamed, ask_whole


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def said(client: openai.OpenAI) -> str:
    """What the agent says, or the error's code."""
    try:
        return ask_whole(client, "default/restarting", "[[say=Here.]]").content
    except openai.APIStatusError as error:
        return str(error.code)


def test_upstream_that_comes_back_is_used_at_once(
    gateway: GatewayServer, client: openai.OpenAI, tmp_path: Path
) -> None:
    port = free_port()
    base_url = f"http://127.0.0.1:{port}/v1"
    gateway.operator.put_upstream("restarting", kind="other", base_url=base_url, models=["m"])
    write_agent(gateway.agents / "Restarting", model="restarting/m")
    eventually(lambda: said(client), "upstream_unreachable")

    for _ in range(2):  # the second time the gateway still has connections to the first server
        with DemoServer(tmp_path, port=port):
            assert said(client) == "Here."
            assert ask_streamed(client, "default/restarting", "[[say=Here.]]").content == "Here."
        assert said(client) == "upstream_unreachable"

    (gateway.agents / "Restarting" / "agent.py").unlink()
    (gateway.agents / "Restarting").rmdir()
    gateway.operator.delete_upstream("restarting")
    eventually(lambda: said(client), "model_not_found")
