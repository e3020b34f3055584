"""One answer of a model, in the pieces that servers send."""

from typing import Any

from apps.execution.events import ClientToolCall, TextDelta
from apps.execution.model_turn import Call, Turn
from apps.upstreams.chat_stream import Choice, Chunk, Delta, Function, ToolCall


def chunk(finish_reason: str | None = None, **delta: Any) -> Chunk:
    return Chunk([Choice(Delta(**delta), finish_reason=finish_reason)])


def piece(index: int, arguments: str | None = None, *, id: str | None = None, name: str | None = None) -> Chunk:
    return chunk(tool_calls=[ToolCall(index, id, Function(name, arguments))])


def read(turn: Turn, *chunks: Chunk) -> list[Any]:
    return [event for one in chunks for event in turn.read(one)]


def test_text_after_text_of_an_earlier_answer_is_set_apart() -> None:
    turn = Turn(follows_text=True)

    assert read(turn, chunk(role="assistant", content=""), chunk(content="a"), chunk(content="b")) == [
        TextDelta("\n\na"),
        TextDelta("b"),
    ]
    assert turn.message() == {"role": "assistant", "content": "ab", "tool_calls": []}


def test_pieces_of_several_calls_are_put_together_in_order() -> None:
    turn = Turn()

    told = read(
        turn,
        piece(1, None, id="b", name="two"),
        piece(0, '{"x"', id="a", name="one"),
        piece(1, ""),
        piece(0, ": 1}"),
        chunk("tool_calls"),
    )

    assert told == []
    assert turn.calls() == [Call("a", "one", '{"x": 1}'), Call("b", "two", "{}")]


def test_clients_calls_are_told_with_numbers_of_their_own() -> None:
    turn = Turn({"mine": {}}, reference="turn0123456789abcdef")

    told = read(
        turn,
        piece(0, "{}", id="a", name="ours"),
        piece(1, "", id="b"),  # a server that sends the name later
        piece(1, "{", name="mine"),
        piece(1, ""),
        piece(1, "}"),
    )

    assert told == [
        ClientToolCall(0, "call_turn0123456789abcdef_0", "mine", "{"),
        ClientToolCall(0, None, None, "}"),
    ]
    assert [(one.name, one.number) for one in turn.calls()] == [("ours", None), ("mine", 0)]


def test_calls_of_an_answer_that_was_cut_are_none() -> None:
    turn = Turn()
    read(turn, piece(0, '{"x": ', id="a", name="one"), chunk("length"))

    assert (turn.calls(), turn.finish_reason) == ([], "length")


def test_arguments_that_are_no_object_do_not_stand_in_the_history() -> None:
    assert [Call("a", "one", text).as_message_part()["function"]["arguments"] for text in ('{"x": 1}', "{x", "7")] == [
        '{"x": 1}',
        '{"unreadable": "{x"}',
        '{"unreadable": "7"}',
    ]
