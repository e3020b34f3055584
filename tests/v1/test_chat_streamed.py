"""POST /v1/chat/completions with `stream: true`."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.harness import DemoServer, FaultyServer, GatewayServer, eventually
from tests.harness.asking import ask_streamed, ask_whole, deltas, read_stream


def test_stream_brings_the_first_words_while_the_upstream_is_still_speaking(
    client: openai.OpenAI, demo: DemoServer
) -> None:
    demo.wait_until_idle()
    before = demo.stats()
    asked: Any = [{"role": "user", "content": "[[words=1000]] [[delay=0.05]]"}]  # it would take 50 seconds

    with client.chat.completions.create(model="default/plain", messages=asked, stream=True) as stream:
        first = next(piece for chunk in stream if (piece := chunk.choices[0].delta.content))
        during = demo.stats()

    assert first.startswith("word1 ")
    assert (during["active"], during["finished"]) == (1, before["finished"])
    eventually(demo.active, 0)


def test_stream_opens_before_a_slow_agent_has_said_anything(
    gateway: GatewayServer, client: openai.OpenAI, tmp_path: Path
) -> None:
    """A client's Stop works only once bytes flow."""
    flag = tmp_path / "flag"
    asked: Any = [{"role": "user", "content": f"[[tool=linger]] [[args={json.dumps({'path': str(flag)})}]]"}]

    with client.chat.completions.create(model="default/waiting", messages=asked, stream=True) as stream:
        chunks = iter(stream)
        opening = next(chunks).choices[0].delta
        flag.with_suffix(".go").touch()  # only now may the tool end
        rest = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert (opening.role, opening.content) == ("assistant", "")
    assert "The tool linger returned: Done lingering." in rest


def test_stream_is_chunks_of_openais_shape(gateway: GatewayServer) -> None:
    asked = {
        "model": "plain",
        "messages": [{"role": "user", "content": "[[say=One two]] [[delay=0.3]]"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    answer = gateway.with_key("POST", "/v1/chat/completions", body=json.dumps(asked).encode())

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    frames = answer.body.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    heads = {(one.pop("id"), one.pop("object"), one.pop("created"), one.pop("model")) for one in chunks}
    ((id, kind, created, model),) = heads
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", id)
    assert (kind, model) == ("chat.completion.chunk", "default/plain")
    assert isinstance(created, int)

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {"choices": [choice], "usage": None}

    assert chunks == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "One "}),
        chunk({"content": "two"}),
        chunk({}, "stop"),
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 2,
                "total_tokens": 22,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        },
    ]


def test_stream_has_no_usage_unless_asked(client: openai.OpenAI) -> None:
    chunks = read_stream(client, "default/plain", "[[words=3]] [[delay=0.3]]", stream_options=None)

    assert [one.usage for one in chunks] == [None] * 5
    assert [len(one.choices) for one in chunks] == [1] * 5


def test_stream_brings_every_word_as_it_comes(client: openai.OpenAI) -> None:
    chunks = read_stream(client, "default/plain", "[[words=6]] [[delay=0.3]]")

    assert deltas(chunks, "content") == ["", *(f"word{number} " for number in range(1, 6)), "word6"]


def test_stream_puts_words_that_wait_already_into_fewer_chunks(client: openai.OpenAI) -> None:
    contents = deltas(read_stream(client, "default/plain", "[[words=2000]]"), "content")

    assert "".join(contents).split() == [f"word{number}" for number in range(1, 2001)]
    assert len(contents) < 2000


def test_stream_never_shows_the_agents_own_tool_calls(client: openai.OpenAI) -> None:
    chunks = read_stream(client, "default/triage", '[[tool=find_invoice]] [[args={"number": 7}]]')

    assert deltas(chunks, "tool_calls") == []
    assert deltas(chunks, "function_call") == []
    assert [choice.finish_reason for one in chunks for choice in one.choices if choice.finish_reason] == ["stop"]


def test_stream_of_a_workflow_streams_the_runs_it_starts(client: openai.OpenAI, demo: DemoServer) -> None:
    asked: Any = [{"role": "user", "content": "[[words=1000]] [[delay=0.05]]"}]

    with client.chat.completions.create(model="default/workflow", messages=asked, stream=True) as stream:
        first = next(piece for chunk in stream if (piece := chunk.choices[0].delta.content))

    assert first.startswith("word1 ")
    eventually(demo.active, 0)


@pytest.mark.parametrize(
    ("agent", "asked"),
    [
        ("default/plain", "Hello"),
        ("default/plain", "[[words=50]]"),
        ("default/plain", "[[say=emoji 👨‍👩‍👧 \u2028 and more]]"),
        ("default/plain", "[[reason]] [[say=Thought over.]]"),
        ("default/plain", "[[refuse=No.]]"),
        ("default/plain", "[[finish=length]] [[words=4]]"),
        ("default/plain", "[[finish=content_filter]] [[words=4]]"),
        ("default/tools", "What is the weather in Oslo?"),
        ("default/triage", "Where is my invoice?"),
        ("default/astool", "Please translate this."),
        ("default/nested", "Do some research."),
        ("default/stopontool", "What is the weather in Oslo?"),
        ("default/outputtype", "Oslo"),
        ("default/guardoutput", "[[say=No digits at all]]"),
        ("default/guardblocking", "my secret"),
        ("default/workflow", "Hello"),
        ("default/workflownoreturn", "Hello"),
        ("default/workflowplain", "Hello"),
        ("default/typedcontext", "Put tea in."),
    ],
)
def test_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI, agent: str, asked: str) -> None:
    streamed, whole = ask_streamed(client, agent, asked), ask_whole(client, agent, asked)

    assert streamed == whole
    assert (whole.content or whole.refusal) is not None


def test_stream_says_the_same_as_the_whole_answer_in_several_messages(client: openai.OpenAI) -> None:
    """Text of two agents: the one that hands off has said something before."""
    model, asked = "faulty/tool-repeated-ids", "Weather, twice"

    assert ask_streamed(client, model, asked) == ask_whole(client, model, asked)


async def test_many_streams_at_once_get_each_its_own_answer(gateway: GatewayServer) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as client:

        async def ask(number: int) -> str:
            messages: Any = [{"role": "user", "content": f"[[say=Answer number {number} of many.]] [[delay=0.01]]"}]
            stream = await client.chat.completions.create(model="default/plain", messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        answers = await asyncio.gather(*(ask(number) for number in range(150)))

    assert answers == [f"Answer number {number} of many." for number in range(150)]


def test_stream_does_not_hold_text_back_while_a_tool_call_is_under_way(
    client: openai.OpenAI, faulty: FaultyServer
) -> None:
    asked: Any = [{"role": "user", "content": "Hi"}]

    with client.chat.completions.create(model="patient/hang-in-arguments", messages=asked, stream=True) as stream:
        first = next(piece for chunk in stream if (piece := chunk.choices[0].delta.content))
        active = faulty.stats()["active"]

    assert (first, active) == ("Hello", 1)
    eventually(lambda: faulty.stats()["active"], 0)
