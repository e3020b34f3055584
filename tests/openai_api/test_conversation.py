"""Messages → the SDK's input items: every row of agents-sdk.md section 5. And → sound messages for declared agents."""

from typing import Any

import pytest
from agents.models.chatcmpl_converter import Converter
from pydantic import TypeAdapter

from apps.core.errors import InvalidRequest
from apps.openai_api.conversation import chat_messages, input_items, last_user_text
from apps.openai_api.schemas import Message

MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Message])


def items(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return input_items(MESSAGES.validate_python(list(messages)))


def call(id: str, name: str = "f", arguments: str | None = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def output_message(*content: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "message",
        "id": "__fake_id__",
        "role": "assistant",
        "status": "completed",
        "content": list(content),
    }


def output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


@pytest.mark.parametrize(
    ("message", "item"),
    [
        ({"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be brief."}),
        ({"role": "developer", "content": "Be brief."}, {"role": "developer", "content": "Be brief."}),
        ({"role": "system", "content": [part("Be"), part("brief.")]}, {"role": "system", "content": "Be\nbrief."}),
        ({"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"role": "user", "content": "Hi", "name": "ann"}, {"role": "user", "content": "Hi"}),
        ({"role": "user", "content": None}, {"role": "user", "content": ""}),
        ({"role": "user"}, {"role": "user", "content": ""}),
        (
            {"role": "user", "content": [part("Hi")]},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.com/a"}}]},
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "https://e.com/a", "detail": "auto"}],
            },
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x", "detail": "high"}}]},
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:,x", "detail": "high"}]},
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:,x", "filename": "a.pdf"}}]},
            {"role": "user", "content": [{"type": "input_file", "file_data": "data:,x", "filename": "a.pdf"}]},
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
            {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]},
        ),
        ({"role": "assistant", "content": "Hello"}, {"role": "assistant", "content": "Hello"}),
        ({"role": "assistant", "content": [part("A"), part("B")]}, {"role": "assistant", "content": "A\nB"}),
        (
            {"role": "assistant", "content": None, "refusal": "No."},
            output_message({"type": "refusal", "refusal": "No."}),
        ),
        (
            {"role": "assistant", "content": [part("A"), {"type": "refusal", "refusal": "No."}]},
            output_message(output_text("A"), {"type": "refusal", "refusal": "No."}),
        ),
        (
            {"role": "assistant", "content": "Hello", "reasoning_content": "Hm.", "annotations": []},
            {"role": "assistant", "content": "Hello"},
        ),
    ],
)
def test_message_becomes_its_item(message: dict[str, Any], item: dict[str, Any]) -> None:
    assert items(message) == [item]


@pytest.mark.parametrize("content", [None, "", []])
def test_assistant_message_with_nothing_in_it_is_left_out(content: Any) -> None:
    assert items({"role": "assistant", "content": content}) == []


@pytest.mark.parametrize("content", [None, ""])
def test_tool_call_without_text_is_a_function_call_alone(content: Any) -> None:
    assert items(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content, "tool_calls": [call("c", arguments='{"a": 1}')]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ) == [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "1_0_c", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "1_0_c", "output": "42"},
    ]


def test_tool_call_with_text_is_one_message_for_the_upstream() -> None:
    made = items(
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call("c")]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    )

    assert made[0] == output_message(output_text("Let me look."))
    sent = Converter.items_to_messages(made)  # type: ignore[arg-type]
    assert [message["role"] for message in sent] == ["assistant", "tool"]
    assert sent[0]["content"] == "Let me look."  # type: ignore[typeddict-item]


def test_empty_arguments_are_an_empty_object() -> None:
    made = items(
        {"role": "assistant", "tool_calls": [call("a", arguments=""), call("b", arguments=None)]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    )

    assert [one["arguments"] for one in made[:2]] == ["{}", "{}"]


@pytest.mark.parametrize(("content", "output"), [([part("4"), part("2")], "4\n2"), (None, ""), ("", "")])
def test_tool_result_is_text(content: Any, output: str) -> None:
    made = items(
        {"role": "assistant", "tool_calls": [call("c")]}, {"role": "tool", "tool_call_id": "c", "content": content}
    )

    assert made[-1]["output"] == output


def test_ids_are_unique_over_the_whole_conversation() -> None:
    """Servers that begin at call_0 in every answer, and one that calls everything by the same id."""
    turn = [
        {"role": "assistant", "tool_calls": [call("call_0"), call("call_1")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "second"},
        {"role": "tool", "tool_call_id": "call_0", "content": "first"},
    ]
    made = items(*turn, *turn)

    calls = [one["call_id"] for one in made if one["type"] == "function_call"]
    results = [(one["call_id"], one["output"]) for one in made if one["type"] == "function_call_output"]
    assert len(set(calls)) == 4
    assert results == [(calls[1], "second"), (calls[0], "first"), (calls[3], "second"), (calls[2], "first")]


def test_call_that_nobody_answered_is_left_out() -> None:
    assert items(
        {"role": "assistant", "content": "Wait.", "tool_calls": [call("open"), call("done")]},
        {"role": "tool", "tool_call_id": "done", "content": "42"},
        {"role": "assistant", "tool_calls": [call("last")]},
    ) == [
        output_message(output_text("Wait.")),
        {"type": "function_call", "call_id": "0_1_done", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "0_1_done", "output": "42"},
    ]


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([{"role": "tool", "tool_call_id": "c", "content": "42"}], 0),
        (
            [
                {"role": "assistant", "tool_calls": [call("c")]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                {"role": "tool", "tool_call_id": "c", "content": "2"},
            ],
            2,
        ),
        (
            [
                {"role": "assistant", "tool_calls": [call("c")]},
                {"role": "assistant", "content": "Hm."},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
            ],
            2,
        ),
    ],
    ids=["no-call", "twice", "of-an-earlier-message"],
)
def test_result_that_answers_no_call_is_refused(messages: list[Any], place: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        items(*messages)

    assert (caught.value.status, caught.value.param) == (400, f"messages[{place}].tool_call_id")
    assert caught.value.message == (
        f"messages[{place}] is the result of the tool call 'c', but no assistant message before it made that call."
    )


def test_order_is_kept() -> None:
    made = items(
        {"role": "user", "content": "1"},
        {"role": "system", "content": "2"},
        {"role": "assistant", "content": "3"},
        {"role": "developer", "content": "4"},
        {"role": "user", "content": "5"},
    )

    assert [one["content"] for one in made] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "user", "content": "Hi"}], "Hi"),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}], "Hi"),
        ([{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}], "Two"),
        (
            [{"role": "user", "content": [part("A"), {"type": "image_url", "image_url": {"url": "u"}}, part("B")]}],
            "A\nB",
        ),
        ([{"role": "user", "content": None}], ""),
        ([{"role": "system", "content": "Be brief."}], ""),
    ],
)
def test_workflow_gets_the_last_user_text(messages: list[Any], text: str) -> None:
    assert last_user_text(MESSAGES.validate_python(messages)) == text


# --- for declared agents ---------------------------------------------------------------------------------------------


def mended(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return chat_messages(MESSAGES.validate_python(list(messages)))


def test_sound_conversation_stays_as_it_is() -> None:
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Briefer."},
        {
            "role": "user",
            "content": [
                part("Look:"),
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f1"}},
            ],
        },
        {"role": "assistant", "content": "Well.", "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": None, "tool_calls": [call("c", arguments='{"x": 1}')]},
        {"role": "tool", "tool_call_id": "c", "content": "3"},
        {"role": "assistant", "content": "Done."},
    ]

    assert mended(*history) == history


def test_content_of_other_shapes_becomes_text() -> None:
    assert mended(
        {"role": "user", "content": None, "name": "Ada"},
        {"role": "assistant", "content": [part("No"), {"type": "refusal", "refusal": "never"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "system", "content": [part("a"), part("b")]},
    ) == [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "No\nnever"},
        {"role": "assistant", "content": "No."},
        {"role": "system", "content": "a\nb"},
    ]


def test_ids_that_begin_anew_in_every_answer_are_told_apart() -> None:
    answer = {"role": "assistant", "content": None, "tool_calls": [call("call_0")]}
    result = {"role": "tool", "tool_call_id": "call_0", "content": "x"}

    whole = mended(answer, result, answer, result)

    ids = [one["tool_calls"][0]["id"] for one in whole if one["role"] == "assistant"]
    assert ids == ["call_0", "2_call_0"]
    assert [one["tool_call_id"] for one in whole if one["role"] == "tool"] == ids


def test_calls_that_nobody_answered_are_no_part_of_it() -> None:
    assert mended(
        {"role": "assistant", "content": "One", "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "assistant", "content": "Two", "tool_calls": [call("c")]},
        {"role": "user", "content": "Stop"},
    ) == [
        {"role": "assistant", "content": "One", "tool_calls": [call("b")]},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Stop"},
    ]


def test_result_of_a_call_that_was_never_made_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        mended({"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "a", "content": "1"})

    assert caught.value.param == "messages[1].tool_call_id"
