"""Conversations: the history that clients send comes to the model as it was, in order and complete."""

from typing import Any

import openai
import pytest

from tests.harness import FaultyServer
from tests.harness.asking import Ask, ask_whole

SYSTEM = {"role": "system", "content": "Answer."}  # the agent's own instructions


def sent(client: openai.OpenAI, faulty: FaultyServer, messages: list[Any]) -> list[Any]:
    """What the upstream got after the agent's instructions."""
    ask_whole(client, "faulty/ok", messages)
    first, *rest = faulty.last()["body"]["messages"]
    assert first == SYSTEM
    return rest


def call(id: str, name: str = "get_weather", arguments: str = '{"city": "Oslo"}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_several_turns_are_remembered(client: openai.OpenAI, ask: Ask) -> None:
    turns: list[Any] = []
    for said in ("My name is Ann.", "I live in Oslo.", "Who am I?"):
        turns.append({"role": "user", "content": said})
        told = ask(client, "default/plain", turns)
        turns.append({"role": "assistant", "content": told.content})

    assert "You said: “Who am I?”." in told.content
    assert "I was sent 6 messages, 3 of them yours; the first was “My name is Ann.”." in told.content


def test_text_history_is_sent_as_it_was(client: openai.OpenAI, faulty: FaultyServer) -> None:
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And?"},
    ]

    assert sent(client, faulty, history) == history


def test_developer_message_keeps_its_role_where_the_upstream_takes_it(
    client: openai.OpenAI, faulty: FaultyServer
) -> None:
    history = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]

    assert sent(client, faulty, history) == history


def test_tool_calls_and_results_stay_pairs_with_ids_of_their_own(client: openai.OpenAI, faulty: FaultyServer) -> None:
    """Two turns whose ids both begin at call_0, as some servers number them."""
    history = [
        {"role": "user", "content": "Weather in Oslo and Rome?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("call_0"), call("call_1", arguments='{"city": "Rome"}')],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sun."},
        {"role": "tool", "tool_call_id": "call_0", "content": "Rain."},
        {"role": "assistant", "content": "Rain and sun."},
        {"role": "user", "content": "And in Paris?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call("call_0", arguments='{"city": "Paris"}')]},
        {"role": "tool", "tool_call_id": "call_0", "content": "Fog."},
        {"role": "user", "content": "Thanks."},
    ]

    got = sent(client, faulty, history)

    ids = [one["id"] for message in got for one in message.get("tool_calls", ())]
    oslo, rome, paris = ids
    assert len(set(ids)) == 3
    names = [
        {one["id"]: one["function"] for one in message["tool_calls"]} for message in got if "tool_calls" in message
    ]
    assert names == [
        {
            oslo: {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
            rome: {"name": "get_weather", "arguments": '{"city": "Rome"}'},
        },
        {paris: {"name": "get_weather", "arguments": '{"city": "Paris"}'}},
    ]
    shapes = [(one["role"], one.get("content"), one.get("tool_call_id")) for one in got]
    assert shapes == [
        ("user", "Weather in Oslo and Rome?", None),
        ("assistant", None, None),
        ("tool", "Sun.", rome),
        ("tool", "Rain.", oslo),
        ("assistant", "Rain and sun.", None),
        ("user", "And in Paris?", None),
        ("assistant", "Let me look.", None),
        ("tool", "Fog.", paris),
        ("user", "Thanks.", None),
    ]


def test_tool_results_of_tools_that_the_agent_does_not_have_are_history_too(
    client: openai.OpenAI, faulty: FaultyServer
) -> None:
    """Open WebUI sends the calls of its own tools again, with empty content."""
    history = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": "", "tool_calls": [call("c", name="get_current_timestamp", arguments="{}")]},
        {"role": "tool", "tool_call_id": "c", "content": "12:00"},
        {"role": "user", "content": "Thanks."},
    ]

    got = sent(client, faulty, history)

    assert [one["role"] for one in got] == ["user", "assistant", "tool", "user"]
    assert got[1]["tool_calls"][0]["function"] == {"name": "get_current_timestamp", "arguments": "{}"}
    assert got[2]["content"] == "12:00"


def test_call_that_nobody_answered_is_left_out(client: openai.OpenAI, faulty: FaultyServer) -> None:
    """A client that was stopped in mid-turn."""
    history = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call("open")]},
        {"role": "user", "content": "Never mind."},
    ]

    assert sent(client, faulty, history) == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me look."},
        {"role": "user", "content": "Never mind."},
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "high"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ],
    ids=["image-data", "image-url", "file", "audio"],
)
def test_media_are_sent_beside_the_text(client: openai.OpenAI, faulty: FaultyServer, part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "What is this?"}, part]

    assert sent(client, faulty, [{"role": "user", "content": content}]) == [{"role": "user", "content": content}]


def test_image_without_detail_is_sent_with_the_default_one(client: openai.OpenAI, faulty: FaultyServer) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}

    (message,) = sent(client, faulty, [{"role": "user", "content": [part]}])

    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}}
    ]


def test_media_are_counted_by_the_demo(client: openai.OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}

    told = ask_whole(client, "default/plain", [{"role": "user", "content": [{"type": "text", "text": "Hi"}, image]}])

    assert "with 1 image." in told.content


def test_parts_of_text_are_kept_apart(client: openai.OpenAI, faulty: FaultyServer) -> None:
    content = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]

    assert sent(client, faulty, [{"role": "user", "content": content}]) == [{"role": "user", "content": content}]


def test_refusal_in_the_history_is_the_assistants(client: openai.OpenAI, faulty: FaultyServer) -> None:
    history = [
        {"role": "user", "content": "Do it."},
        {"role": "assistant", "content": None, "refusal": "I will not."},
        {"role": "user", "content": "Please."},
    ]

    got = sent(client, faulty, history)

    assert [one["role"] for one in got] == ["user", "assistant", "user"]
    assert "I will not." in str(got[1])


def test_conversation_that_ends_with_the_assistant_is_continued(client: openai.OpenAI, faulty: FaultyServer) -> None:
    """Open WebUI's Continue."""
    history = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]

    assert sent(client, faulty, history) == history


@pytest.mark.parametrize("content", [None, ""])
def test_user_message_without_content_is_empty_text(client: openai.OpenAI, faulty: FaultyServer, content: Any) -> None:
    assert sent(client, faulty, [{"role": "user", "content": content}]) == [{"role": "user", "content": ""}]


def test_workflow_gets_the_last_user_text(client: openai.OpenAI) -> None:
    messages = [
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": [{"type": "text", "text": "Last"}, {"type": "text", "text": "words."}]},
    ]

    assert ask_whole(client, "default/workflowplain", messages).content == "You wrote: Last\nwords."
