"""The demo upstream as a process of its own, driven by the official client."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI

from apps.upstreams import demo

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "manage.py"), "demo_upstream"]
MESSAGES: list[Any] = [{"role": "user", "content": "[[words=3]]"}]


@contextmanager
def served(data: Path, *options: str) -> Iterator[str]:
    """The base URL that the command prints, of a server with an empty data folder."""
    environment = os.environ | {"GATEWAY_DATA_DIR": str(data)}
    environment.pop("DATABASE_URL", None)
    command = [*COMMAND, "--port", "0", "--delay", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def url(data: Path) -> Iterator[str]:
    with served(data) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        yield client


def stats(client: OpenAI) -> dict[str, int]:
    root = str(client.base_url).removesuffix("/v1/")
    return client.get(f"{root}/stats", cast_to=dict[str, int])


def error_of(error: openai.APIStatusError) -> tuple[int, str | None, str | None]:
    return error.status_code, error.code, error.param


def test_models_are_listed_and_found_by_name(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "demo"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-x")
    assert error_of(refused.value) == (404, "model_not_found", "model")


def test_a_stream_is_what_the_pure_functions_say(client: OpenAI) -> None:
    options: Any = {"include_usage": True}
    stream = client.chat.completions.create(model="demo", messages=MESSAGES, stream=True, stream_options=options)
    chunks = [chunk.model_dump(exclude_unset=True) for chunk in stream]
    said = list(demo.chunks({"model": "demo", "messages": MESSAGES, "stream_options": options}))
    assert [chunk | {"id": ""} for chunk in chunks] == [chunk | {"id": ""} for chunk in said]


def test_usage_counts_the_whole_prompt_though_frames_are_kept(client: OpenAI) -> None:
    long: list[Any] = [{"role": "system", "content": "x" * 400}, *MESSAGES]
    for messages in (MESSAGES, long, MESSAGES):
        stream = client.chat.completions.create(
            model="demo", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        usage = list(stream)[-1].usage
        assert usage
        assert usage.model_dump(exclude_unset=True) == demo.usage_of({"messages": messages}, completion_tokens=3)


def test_a_whole_answer_is_the_same(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="any-name", messages=MESSAGES)
    assert (answer.model, answer.choices[0].message.content) == ("any-name", "word1 word2 word3")


def test_tools_are_called_over_http(client: OpenAI) -> None:
    parameters: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    answer = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
        tools=[{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}],
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [call.to_dict()["function"] for call in answer.choices[0].message.tool_calls or ()] == [
        {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    ]


def test_bad_bodies_are_bad_request_errors(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="demo", messages=[])
    assert error_of(refused.value) == (400, None, "messages")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="demo", messages=[], stream=True)


def post(url: str, body: bytes, method: str = "POST", path: str = "/v1/chat/completions") -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())["error"]["code"]
    finally:
        connection.close()


def test_errors_have_the_right_status(url: str) -> None:
    assert post(url, b'{"messages": [') == (400, None)
    assert post(url, b"[1]") == (400, None)
    assert post(url, b'{"messages": [{"role": "user", "content": "\\ud800"}]}') == (400, None)
    assert post(url, b"", method="GET") == (405, "method_not_allowed")
    assert post(url, b"", path="/v1/embeddings") == (404, "unknown_url")


def test_a_body_over_32_mb_is_refused_unread(url: str) -> None:
    with socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 0)) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {33 * 1024 * 1024}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_client_that_leaves_ends_the_stream(client: OpenAI) -> None:
    before = stats(client)
    stream = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "[[words=10000]] [[delay=0.01]]"}], stream=True
    )
    next(iter(stream))
    assert stats(client)["active"] == 1
    stream.close()
    deadline = time.monotonic() + 10
    while (after := stats(client))["active"] and time.monotonic() < deadline:
        time.sleep(0.01)
    counted = {name: after[name] - before[name] for name in ("started", "finished", "cancelled", "active", "requests")}
    assert counted == {"started": 1, "finished": 0, "cancelled": 1, "active": 0, "requests": 1}


def test_streaming_streams(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "[[words=10000]] [[delay=0.01]]"}], stream=True
    )
    first = next(chunk for chunk in stream if chunk.choices[0].delta.content)
    assert first.choices[0].delta.content == "word1 "
    assert stats(client)["active"] == 1  # received while the rest is still to be sent
    stream.close()


def test_no_database_is_made(client: OpenAI, data: Path) -> None:
    client.models.list()
    assert [path.name for path in data.iterdir() if "sqlite" in path.name or "db" in path.name] == []


def test_an_api_key_is_asked_for(tmp_path: Path) -> None:
    with served(tmp_path, "--api-key", "sesame") as url:
        assert [model.id for model in OpenAI(base_url=url, api_key="sesame").models.list()] == ["demo"]
        with pytest.raises(openai.AuthenticationError) as refused:
            OpenAI(base_url=url, api_key="other").models.list()
        assert error_of(refused.value) == (401, "invalid_api_key", None)


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = os.environ | {"GATEWAY_DATA_DIR": str(tmp_path)}
        command = [*COMMAND, "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"CommandError: Cannot listen on 127.0.0.1:{port} (Address already in use): "
        "choose another --port, or stop what uses this one.\n"
    )
