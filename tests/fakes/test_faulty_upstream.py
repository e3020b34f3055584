"""The faulty upstream has the faults that it names: a fake that is right by mistake proves nothing."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from tests.fakes import faulty_upstream as faulty
from tests.fakes.faulty_upstream import FaultyUpstream

ROOT = Path(__file__).resolve().parents[2]
NEVER_WHOLE = ("hang", "hang-in-arguments", "hang-at-once", "cut", "cut-at-once", "drops", "drops-once")
UNREADABLE = ("redirect", "header-bomb", "bad-chunk-length", "bad-gzip", "gzip-bomb")  # no client comes to their end
MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def server() -> FaultyUpstream:
    return FaultyUpstream(slow=30)


@pytest.fixture
async def url(server: FaultyUpstream) -> AsyncIterator[str]:
    async with server.serving() as url:
        yield url


async def raw(url: str, model: str, *, stream: bool = True) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    body = {"model": model, "messages": MESSAGES, "stream": stream, "stream_options": {"include_usage": True}}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/chat/completions", json=body) as response:
        return response.status, response.content_type, await response.read()


async def chunks(url: str, model: str) -> list[Any]:
    lines = (await raw(url, model))[2].replace(b"\r\n", b"\n").split(b"\n")
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


def deltas(chunks: list[Any]) -> list[Any]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def finishes(chunks: list[Any]) -> list[Any]:
    return [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]


def text(chunks: list[Any]) -> str:
    return "".join(delta.get("content") or "" for delta in deltas(chunks))


async def test_ok_is_what_the_official_client_expects(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        whole = await client.chat.completions.create(model="ok", messages=MESSAGES)
        stream = await client.chat.completions.create(model="ok", messages=MESSAGES, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == faulty.TEXT
        assert whole.choices[0].message.content == faulty.TEXT
        assert {"ok", "cut", "slow-headers"} <= {model.id async for model in client.models.list()}


@pytest.mark.parametrize("model", [name for name in faulty.FAULTS if name not in (*NEVER_WHOLE, *UNREADABLE)])
@pytest.mark.parametrize("stream", [True, False])
async def test_every_fault_ends(url: str, server: FaultyUpstream, model: str, stream: bool) -> None:
    await raw(url, model, stream=stream)
    assert (server.stats.started, server.stats.cancelled) == (1, 0)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
async def test_status_is_an_openai_error(url: str, status: int) -> None:
    answered, kind, body = await raw(url, f"status-{status}")
    assert (answered, kind, json.loads(body)["error"]["message"]) == (
        status, "application/json", f"The upstream says {status}."
    )  # fmt: skip


async def test_rate_limited_says_when_to_come_back(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model="rate-limited", messages=MESSAGES)
    assert refused.value.response.headers["retry-after"] == "7"


async def test_rate_limited_says_so_as_a_date_too(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model="rate-limited-date", messages=MESSAGES)
    away = parsedate_to_datetime(refused.value.response.headers["retry-after"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < away <= timedelta(seconds=40)


@pytest.mark.parametrize(("model", "status"), [("fails-once", 500), ("rate-limited-once", 429)])
async def test_bad_moments_pass(url: str, model: str, status: int) -> None:
    assert [(await raw(url, model))[0] for _ in range(4)] == [status, 200, status, 200]


@pytest.mark.parametrize("model", ["drops", "drops-once", "cut-at-once"])
async def test_connection_ends_without_a_word(url: str, model: str) -> None:
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError)):
        await raw(url, model)


async def test_fragments_of_a_tool_call_belong_together(url: str) -> None:
    calls = [delta["tool_calls"][0] for delta in deltas(await chunks(url, "tool-fragments")) if "tool_calls" in delta]
    assert [one for one in calls if "id" in one or "index" in one] == []
    assert "".join(one["function"]["arguments"] for one in calls) == '{"city": "Oslo"}'


@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ("html", 200, "text/html"),
        ("plain-text", 200, "text/plain"),
        ("mislabelled", 200, "application/json"),
        ("whole-anyway", 200, "application/json"),
        ("text-error", 500, "text/plain"),
        ("detail-error", 422, "application/json"),
    ],
)
async def test_answers_of_other_kinds(url: str, model: str, status: int, kind: str) -> None:
    assert (await raw(url, model))[:2] == (status, kind)


async def test_unknown_models_are_404(url: str) -> None:
    assert (await raw(url, "gpt-x"))[0] == 404


@pytest.mark.parametrize("stream", [True, False])
async def test_cut_ends_inside_the_body(url: str, stream: bool) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await raw(url, "cut", stream=stream)


async def test_cut_clean_has_no_finish_reason(url: str) -> None:
    made = await chunks(url, "cut-clean")
    assert (text(made), finishes(made)) == ("Hello from the", [])


async def test_no_done_has_none(url: str) -> None:
    body = (await raw(url, "no-done"))[2]
    assert (b"[DONE]" in body, b'"finish_reason": "stop"' in body) == (False, True)


async def test_an_error_comes_in_the_stream(url: str) -> None:
    first, second, error = await chunks(url, "error-in-stream")
    assert (text([first, second]), error["error"]["message"]) == ("Hello", "The model crashed.")


async def test_tool_calls_without_id(url: str) -> None:
    calls = [delta["tool_calls"] for delta in deltas(await chunks(url, "tool-no-id")) if "tool_calls" in delta]
    assert calls == [[{"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]]


async def test_stop_with_tools(url: str) -> None:
    assert finishes(await chunks(url, "stop-with-tools")) == ["stop"]


async def test_tool_ids_repeat_over_two_rounds_and_then_text_comes(url: str) -> None:
    messages: list[Any] = list(MESSAGES)
    ids = []
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        for _ in range(2):
            answer = await client.chat.completions.create(model="tool-repeated-ids", messages=messages)
            [call] = answer.choices[0].message.tool_calls or []
            ids.append(call.id)
            messages += [answer.choices[0].message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "x"}]
        last = await client.chat.completions.create(model="tool-repeated-ids", messages=messages)
    assert (ids, last.choices[0].message.content) == (["call_0", "call_0"], faulty.TEXT)


async def test_usage_on_every_chunk_and_on_none(url: str) -> None:
    assert all("usage" in chunk for chunk in await chunks(url, "usage-every-chunk"))
    assert not any("usage" in chunk for chunk in await chunks(url, "no-usage"))
    assert (await chunks(url, "ok"))[-1]["usage"] == faulty.USAGE


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("crlf", faulty.TEXT),
        ("gzip", faulty.TEXT),
        ("split-utf8", faulty.EMOJI_TEXT),
        ("u2028", faulty.LINE_SEPARATOR_TEXT),
        ("empty", ""),
        ("flood", "x" * faulty.FLOOD),
        ("big-chunk", "x" * faulty.BIG),
        ("reasoning", faulty.TEXT),
        ("reasoning-content", faulty.TEXT),
        ("closes", faulty.TEXT),
    ],
)
async def test_texts_survive_a_careful_reader(url: str, model: str, said: str) -> None:
    assert text(await chunks(url, model)) == said


async def test_split_utf8_really_splits(url: str) -> None:
    body = {"model": "split-utf8", "messages": MESSAGES, "stream": True}
    broken = 0
    async with aiohttp.ClientSession() as session, session.post(f"{url}/chat/completions", json=body) as response:
        async for data, _ in response.content.iter_chunks():
            with contextlib.suppress(UnicodeDecodeError):
                data.decode()
                continue
            broken += 1
    assert broken > 2


@pytest.mark.parametrize(
    ("model", "finish", "delta"),
    [
        ("length", "length", {"content": "Hello"}),
        ("content-filter", "content_filter", {"content": "Hello"}),
        ("refusal", "stop", {"refusal": "I cannot"}),
        ("reasoning", "stop", {"reasoning": "Let me"}),
        ("reasoning-content", "stop", {"reasoning_content": "Let me"}),
    ],
)
async def test_first_words_and_finish(url: str, model: str, finish: str, delta: Any) -> None:
    made = await chunks(url, model)
    assert (deltas(made)[1], finishes(made)) == (delta, [finish])


@pytest.mark.parametrize("model", ["hang", "hang-in-arguments", "hang-at-once", "slow-headers"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_gives_up_is_counted(url: str, server: FaultyUpstream, model: str, stream: bool) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw(url, model, stream=stream), 0.3)
    async with asyncio.timeout(10):
        await server.idle.wait()
    assert (server.stats.started, server.stats.finished, server.stats.cancelled) == (1, 0, 1)


async def test_slow_headers_come_in_the_end(url: str) -> None:
    assert text(await chunks(url, "slow-headers-0.01")) == faulty.TEXT


async def test_the_last_request_is_kept(url: str) -> None:
    await raw(url, "ok")
    async with aiohttp.ClientSession() as session:
        last = await (await session.get(url.replace("/v1", "/last"))).json()
        stats = await (await session.get(url.replace("/v1", "/stats"))).json()
    assert (last["body"]["messages"], last["headers"]["content-type"]) == (MESSAGES, "application/json")
    assert stats.pop("connections") >= 1  # this one; the other's end may not have been seen yet
    assert stats == {"requests": 1, "active": 0, "started": 1, "finished": 1, "cancelled": 0}


def test_it_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "tests.fakes.faulty_upstream", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            with openai.OpenAI(base_url=url, api_key="x") as client:
                assert client.chat.completions.create(model="ok", messages=MESSAGES).choices[0].finish_reason == "stop"
        finally:
            process.terminate()
