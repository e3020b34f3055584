"""The demo upstream's answers, as pure functions of the request."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from apps.upstreams import demo
from apps.upstreams.demo import DemoRequestError, Hints

STRING = {"type": "string"}


def tool(name: str, description: str = "", /, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_weather", "The weather of a city.", city=STRING)
CLOCK = tool("get_time", "The time in a city.", city=STRING)
REFUNDS = tool("transfer_to_refund_agent", "Handoff to the Refund agent to handle the request. Handles refunds.")
MATHS = tool("transfer_to_maths_tutor", "Handoff to the Maths tutor agent to handle the request.")


def ask(*messages: str | dict[str, Any], **body: Any) -> dict[str, Any]:
    """The whole answer to messages; a string is a user's."""
    made = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
    return demo.completion({"model": "demo", "messages": made, **body})


def text(*messages: str | dict[str, Any], **body: Any) -> Any:
    return ask(*messages, **body)["choices"][0]["message"]["content"]


def calls(*messages: str | dict[str, Any], **body: Any) -> list[tuple[str, Any]]:
    message = ask(*messages, **body)["choices"][0]["message"]
    made = [call["function"] for call in message.get("tool_calls", [])]
    return [(call["name"], json.loads(call["arguments"])) for call in made]


def finish(*messages: str | dict[str, Any], **body: Any) -> Any:
    return ask(*messages, **body)["choices"][0]["finish_reason"]


def called(name: str, output: str, number: int = 0) -> list[dict[str, Any]]:
    """The messages of a call that has been made, and of its result."""
    call = {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{number}", "content": output},
    ]


# --- prose -----------------------------------------------------------------------------------------------------------


def test_prose_says_that_it_is_the_demo_and_quotes_what_it_got() -> None:
    system = {"role": "system", "content": "You are a pirate."}
    assert text(system, "Tell me a story") == (
        "This is the built-in demo upstream: no language model is connected. My instructions are: “You are a pirate.”. "
        "You said: “Tell me a story”. I was sent 2 messages, 1 of them yours.\n\n"
        "To talk to a real model, add its server in the admin under Upstreams and make it the default."
    )


def test_prose_remembers_the_first_turn() -> None:
    answer = text("My name is Ada", {"role": "assistant", "content": "Hello"}, "What is my name?")
    assert "I was sent 3 messages, 2 of them yours; the first was “My name is Ada”." in answer


def test_prose_counts_media() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    file = {"type": "file", "file": {"file_id": "f"}}
    message = {"role": "user", "content": [{"type": "text", "text": "Look"}, image, image, file]}
    assert "1 of them yours, with 2 images and 1 file." in text(message)


def test_prose_quotes_tool_results_verbatim() -> None:
    assert "The tool get_weather returned: Sunny — 21°C\nand dry" in text(
        "Weather in Oslo?", *called("get_weather", "Sunny — 21°C\nand dry"), tools=[WEATHER]
    )


def test_equal_requests_get_equal_answers() -> None:
    assert ask("Hello") == ask("Hello")
    assert ask("Hello")["id"] != ask("Hello you")["id"]


def test_lone_surrogates_are_answered() -> None:
    assert "“a?b”" in text("a\ud800b")


# --- streams ---------------------------------------------------------------------------------------------------------


def test_chunks_are_role_words_finish_and_usage() -> None:
    body = {"messages": [{"role": "user", "content": "[[say=one  two]]"}], "stream_options": {"include_usage": True}}
    *chunks, last = demo.chunks(body)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "one  "},
        {"content": "two"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 2)


def test_chunks_have_no_usage_unless_asked() -> None:
    assert all("usage" not in chunk for chunk in demo.chunks({"messages": [{"role": "user", "content": "Hi"}]}))


def test_tool_calls_are_streamed_in_fragments() -> None:
    body = {"messages": [{"role": "user", "content": "weather in Oslo"}], "tools": [WEATHER]}
    deltas = [chunk["choices"][0]["delta"] for chunk in demo.chunks(body)]
    first, *rest = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert (first["index"], first["type"], first["function"]) == (
        0,
        "function",
        {"name": "get_weather", "arguments": ""},
    )
    assert len(rest) > 1
    assert "".join(call["function"]["arguments"] for call in rest) == '{"city": "Oslo"}'


@pytest.mark.parametrize("content", ["", " ", "one", " one two ", "one\n\ntwo", "[]", "日本語 text"])
def test_words_joined_are_the_text(content: str) -> None:
    assert text(f"[[say={content}]]") == (content or None)


# --- usage and limits ------------------------------------------------------------------------------------------------


def test_usage_follows_its_rule() -> None:
    usage = ask("12345 [[words=3]]")["usage"]
    assert usage == {
        "prompt_tokens": 4 + 5,  # a message, and 17 characters
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cut_the_answer(name: str) -> None:
    answer = ask("[[words=9]]", **{name: 2})
    assert answer["choices"][0]["message"]["content"] == "word1 word2"
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 2)


def test_max_tokens_of_the_very_length_cut_nothing() -> None:
    assert finish("[[words=2]]", max_tokens=2) == "stop"


@pytest.mark.parametrize("stop", ["word3", ["word4", "word3"]])
def test_stop_ends_the_answer(stop: Any) -> None:
    assert (text("[[words=9]]", stop=stop), finish("[[words=9]]", stop=stop)) == ("word1 word2 ", "stop")


# --- directives ------------------------------------------------------------------------------------------------------


def test_words_are_numbered() -> None:
    assert text("Please [[words=3]]") == "word1 word2 word3"
    assert text("[[words=0]]") is None
    assert len(text("[[words=100000]]").split()) == 100_000


@pytest.mark.parametrize(
    "directive", ["[[words=100001]]", "[[words=-1]]", "[[words=x]]", "[[finish=x]]", "[[delay=11]]"]
)
def test_bad_directives_are_refused(directive: str) -> None:
    with pytest.raises(DemoRequestError, match="takes"):
        ask(directive)


def test_refuse_is_a_refusal() -> None:
    message = ask("[[refuse]]")["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, demo.REFUSAL)


def test_reason_comes_before_the_answer() -> None:
    body = {"messages": [{"role": "user", "content": "[[reason=Hm so]] [[say=Yes]]"}]}
    deltas = [chunk["choices"][0]["delta"] for chunk in demo.chunks(body)]
    assert deltas[1:4] == [{"reasoning_content": "Hm "}, {"reasoning_content": "so"}, {"content": "Yes"}]
    assert ask("[[reason=Hm so]] [[say=Yes]]")["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_finish_is_what_was_asked(reason: str) -> None:
    assert finish(f"[[finish={reason}]]") == reason


def test_tool_directive_calls_that_tool_with_those_arguments() -> None:
    assert calls('[[tool=get_time]] [[args={"a": [[1]]}]] go', tools=[WEATHER, CLOCK]) == [("get_time", {"a": [[1]]})]
    assert calls("[[tool=unknown]]") == [("unknown", {})]


def test_directives_that_never_close_are_text_and_cost_little() -> None:
    assert text("[[say=" * 100_000).startswith(demo.GREETING)


def test_tool_directive_may_give_arguments_that_are_no_json() -> None:
    answer = ask("[[tool=get_time]] [[args={broken]]", tools=[CLOCK])
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{broken"


def test_tool_directives_make_parallel_calls() -> None:
    asked = "[[tool=get_time]][[args={}]] [[tool=get_weather]]"
    assert calls(asked, tools=[WEATHER, CLOCK]) == [("get_time", {}), ("get_weather", {"city": "demo"})]
    assert calls(asked, tools=[WEATHER, CLOCK], parallel_tool_calls=False) == [("get_time", {})]


def test_tool_directive_waits_for_the_agent_that_has_the_tool() -> None:
    asked = "[[tool=get_time]] my refund"
    assert calls(asked, tools=[MATHS, REFUNDS]) == [("transfer_to_refund_agent", {})]
    assert calls(asked, *called("transfer_to_refund_agent", "{}"), tools=[CLOCK]) == [("get_time", {"city": "demo"})]


def test_answer_directives_follow_a_tool_directive() -> None:
    asked = "[[tool=get_time]] [[say=Done.]]"
    assert calls(asked, tools=[CLOCK]) == [("get_time", {"city": "demo"})]
    assert text(asked, *called("get_time", "12:00"), tools=[CLOCK]) == "Done."


def test_no_tools_directive_calls_none() -> None:
    assert calls("weather [[no-tools]]", tools=[WEATHER], tool_choice="required") == []


def test_directives_are_cut_from_what_tools_get() -> None:
    asked = "[[tool=ask]] Say it well [[reason]]"
    assert calls(asked, tools=[tool("ask", input=STRING)]) == [("ask", {"input": "Say it well"})]


def test_delay_is_read() -> None:
    assert demo.delay_of({"messages": [{"role": "user", "content": "[[delay=0.25]]"}]}) == 0.25


@pytest.mark.parametrize(
    ("asked", "body", "words"),
    [
        ("[[words=5]] go", {}, 5),
        ("[[words=5]] go", {"max_tokens": 2}, None),
        ("[[words=5]] [[reason]]", {}, None),
        ("### Task: [[words=5]]", {}, None),
        ("go", {}, None),
    ],
)
def test_plain_words_are_known_without_an_answer(asked: str, body: dict[str, Any], words: int | None) -> None:
    assert demo.plain_words({"messages": [{"role": "user", "content": asked}], **body}) == words


# --- tools -----------------------------------------------------------------------------------------------------------


def test_the_tool_that_shares_words_is_called() -> None:
    assert calls("What is the weather in Paris?", tools=[CLOCK, WEATHER]) == [("get_weather", {"city": "Paris"})]


def test_the_first_tool_is_called_when_none_shares_words() -> None:
    assert [name for name, _ in calls("Sing", tools=[CLOCK, WEATHER])] == ["get_time"]


def test_two_tools_are_called_when_the_text_names_both() -> None:
    asked = "Weather and time in Oslo?"
    assert sorted(calls(asked, tools=[CLOCK, WEATHER])) == [
        ("get_time", {"city": "Oslo"}),
        ("get_weather", {"city": "Oslo"}),
    ]
    assert len(calls(asked, tools=[CLOCK, WEATHER], parallel_tool_calls=False)) == 1


@pytest.mark.parametrize("greeting", ["hello", "Hi!", "Thanks 😊", "good morning", "Hi there, how are you?"])
def test_a_greeting_calls_nothing_unless_required(greeting: str) -> None:
    assert calls(greeting, tools=[REFUNDS, WEATHER]) == []
    assert len(calls(greeting, tools=[WEATHER], tool_choice="required")) == 1


def test_tool_choice_is_obeyed() -> None:
    asked, tools = "weather in Oslo", [WEATHER, CLOCK]
    named = {"type": "function", "function": {"name": "get_time"}}
    assert calls(asked, tools=tools, tool_choice="none") == []
    assert calls(asked, tools=tools, tool_choice=named) == [("get_time", {"city": "Oslo"})]


def test_no_tools_are_called_twice_for_one_message() -> None:
    assert calls("weather", *called("get_weather", "Sunny"), tools=[WEATHER], tool_choice="required") == []


def test_tools_are_called_again_for_the_next_message() -> None:
    history: list[Any] = ["weather", *called("get_weather", "Sunny"), {"role": "assistant", "content": "Sunny."}]
    assert calls(*history, "weather in Rome", tools=[WEATHER]) == [("get_weather", {"city": "Rome"})]


def test_call_ids_differ_within_a_conversation() -> None:
    first = ask("weather and time", tools=[WEATHER, CLOCK])["choices"][0]["message"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in first["tool_calls"]]
    second = ask("weather and time", first, *results, "weather and time", tools=[WEATHER, CLOCK])
    ids = [call["id"] for message in (first, second["choices"][0]["message"]) for call in message["tool_calls"]]
    assert len(set(ids)) == 4


def test_empty_tools_are_no_tools() -> None:
    assert finish("weather", tools=[]) == "stop"


# --- handoffs --------------------------------------------------------------------------------------------------------


def test_the_handoff_that_shares_words_is_taken() -> None:
    assert calls("I want my money refunded: refunds!", tools=[MATHS, REFUNDS]) == [("transfer_to_refund_agent", {})]


def test_an_ordinary_tool_that_shares_words_goes_before_a_handoff_that_does_not() -> None:
    assert calls("weather in Rome", tools=[MATHS, WEATHER]) == [("get_weather", {"city": "Rome"})]
    assert calls("anything else", tools=[MATHS, WEATHER]) == [("transfer_to_maths_tutor", {})]


def test_one_handoff_then_the_new_agents_tools_then_an_answer() -> None:
    handoff = called("transfer_to_refund_agent", '{"assistant": "Refund agent"}')
    assert calls("my refund", *handoff, tools=[MATHS]) == []
    assert calls("my refund", *handoff, tools=[MATHS, WEATHER]) == [("get_weather", {"city": "demo"})]
    answer = text("my refund", *handoff, *called("get_weather", "Sunny", 1), tools=[MATHS, WEATHER])
    assert "I came here by the handoff transfer_to_refund_agent." in answer
    assert "The tool get_weather returned: Sunny" in answer
    assert "assistant" not in answer


# --- JSON answers ----------------------------------------------------------------------------------------------------


class Step(BaseModel):
    explanation: str
    children: list["Step"]


class Report(BaseModel):
    title: str = Field(max_length=20)
    summary: str
    is_urgent: bool
    score: float = Field(ge=0, le=1)
    steps: list[Step]
    next: "Report | None"


def json_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "report", "strict": True, "schema": schema}}


def test_a_json_schema_is_filled() -> None:
    report = Report.model_validate_json(text("This is urgent", response_format=json_schema(Report.model_json_schema())))
    assert (report.is_urgent, report.summary) == (True, demo.GREETING)


def test_a_json_schema_waits_for_the_tools() -> None:
    format_ = json_schema({"type": "object", "properties": {"answer": STRING}, "required": ["answer"]})
    assert len(calls("weather", tools=[WEATHER], response_format=format_)) == 1
    answer = text("weather", *called("get_weather", "Sunny"), tools=[WEATHER], response_format=format_)
    assert json.loads(answer) == {"answer": f"{demo.GREETING} get_weather returned: Sunny"}


def test_a_json_object_says_that_it_is_the_demo() -> None:
    answer = json.loads(text("Hello", response_format={"type": "json_object"}))
    assert answer == {"demo": True, "message": demo.GREETING, "you_said": "Hello", "tool_results": []}


@pytest.mark.parametrize(
    ("asks", "answer"),
    [
        ('{ "title": "..." }', {"title": "Demo: What is the weather in Oslo"}),
        ('{ "tags": ["a", "b"] }', {"tags": ["Demo", "General"]}),
        ('{ "queries": ["a"] }', {"queries": ["What is the weather in Oslo"]}),
    ],
)
def test_chat_ui_tasks_get_the_json_they_ask_for(asks: str, answer: Any) -> None:
    prompt = (
        f"#### Task:\nGenerate it.\n### Output:\nJSON format: {asks}\n### Chat History:\n<chat_history>\n"
        'USER: What is the weather in Oslo today "follow_ups" [[words=9]]\nASSISTANT: Sunny\n</chat_history>'
    )
    assert json.loads(text(prompt, tools=[WEATHER])) == answer


# --- schemas ---------------------------------------------------------------------------------------------------------

NODE = {"type": "object", "properties": {"name": STRING, "next": {"$ref": "#/$defs/Node"}}, "required": ["name"]}
TREE = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
    "required": ["children"],
}
LIST = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/List"}, {"type": "null"}]}},
    "required": ["next"],
}
SCHEMAS: list[Any] = [
    {},
    True,
    {"type": "string"},
    {"type": ["null", "integer"]},
    {"type": "null"},
    {"const": 7},
    {"enum": [None, "a", "b"]},
    {"type": "string", "default": "x"},
    {"type": "string", "examples": ["x"]},
    *(
        {"type": "string", "format": one}
        for one in ("date", "date-time", "time", "email", "uri", "uuid", "ipv4", "ipv6")
    ),
    {"type": "string", "minLength": 12, "maxLength": 14},
    {"type": "string", "maxLength": 2},
    {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{3}$"},
    {"type": "integer", "minimum": 5, "maximum": 6},
    {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7},
    {"type": "integer", "multipleOf": 7, "minimum": 1},
    {"type": "integer", "multipleOf": 7, "maximum": -1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "exclusiveMinimum": 100},
    {"type": "number", "multipleOf": 0.5, "minimum": 0.2, "maximum": 0.9},
    {"minimum": 3, "maximum": 4},
    {"type": "array"},
    {"type": "array", "items": STRING, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "items": STRING, "maxItems": 0},
    {"type": "array", "prefixItems": [{"type": "integer"}, STRING], "items": False, "minItems": 2},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": False},
    {"type": "object", "minProperties": 2},
    {"type": "object", "required": ["a"]},
    {"type": "object", "properties": {"a": STRING, "b": {"type": "integer"}}, "minProperties": 1},
    {"properties": {"a": STRING}, "required": ["a"], "additionalProperties": False},
    {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 9}]},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"type": "string"}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ]
    },
    {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
    {"$ref": "#/$defs/Tree", "$defs": {"Tree": TREE}},
    {"$ref": "#/$defs/List", "$defs": {"List": LIST}},
    {"type": "object", "properties": {"self": {"$ref": "#"}}},
    Report.model_json_schema(),
]
TEXTS = ["", "Fly from Oslo to Rome on 2026-03-04, 12 people, 99.5 kg; mail ada@x.org", 'Say "hi" 0 times', "日本 🎉"]


@pytest.mark.parametrize("said", TEXTS)
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_values_fit_their_schema(schema: Any, said: str) -> None:
    value = demo.fitting(schema, Hints.from_text(said))
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
    json.dumps(value)


def test_a_schema_that_branches_without_end_is_filled_in_bounds() -> None:
    schema = {"type": "object", "properties": {f"branch{number}": {"$ref": "#"} for number in range(12)}}
    assert len(json.dumps(demo.fitting(schema, Hints.from_text("")))) < 200_000


@pytest.mark.parametrize(
    ("said", "properties", "arguments"),
    [
        ("Fly from Oslo to New York", {"origin": STRING, "to": STRING}, {"origin": "Oslo", "to": "New York"}),
        ("The weather in paris please", {"city": STRING}, {"city": "paris"}),
        ("Greet 'Ada Lovelace' warmly", {"name": STRING}, {"name": "Ada Lovelace"}),
        ("What is 17 times 23?", {"a": {"type": "integer"}, "b": {"type": "integer"}}, {"a": 17, "b": 23}),
        ("Find red shoes", {"query": STRING}, {"query": "Find red shoes"}),
        ("Is it 20 in kelvin?", {"unit": {"enum": ["celsius", "kelvin"]}}, {"unit": "kelvin"}),
        ("Write to ada@example.org", {"user_email": STRING}, {"user_email": "ada@example.org"}),
        ("See https://a.example/b.", {"url": {"type": "string", "format": "uri"}}, {"url": "https://a.example/b"}),
    ],
)
def test_arguments_come_from_the_text(said: str, properties: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert calls(said, tools=[tool("act", **properties)]) == [("act", arguments)]


# --- bad requests ----------------------------------------------------------------------------------------------------

CALL = called("x", "")[0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0]"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages[0]"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]}, "messages[0]"),
        ({"messages": [CALL]}, "messages"),
        ({"messages": [CALL, {"role": "user", "content": "Hi"}]}, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": 1}]}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": 7}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": "Hi"}], "n": 2}, "n"),
        ({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "magic"}]}, "tools[0]"),
        ({"messages": [{"role": "user", "content": "Hi"}], "tools": 7}, "tools"),
        ({"messages": [{"role": "user", "content": "Hi"}], "stop": [""]}, "stop"),
        ({"messages": [{"role": "user", "content": "Go"}], "tools": [tool("f", a={"enum": 7})]}, "tools"),
        ({"messages": [{"role": "user", "content": "Go"}], "tools": [tool("f", a={"minLength": 10**9})]}, "tools"),
        ({"messages": [{"role": "user", "content": "Hi"}], "tool_choice": "maybe"}, "tool_choice"),
    ],
)
def test_bad_requests_are_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(DemoRequestError) as refused:
        demo.chunks(body)
    assert (refused.value.param, refused.value.status) == (param, 400)
    assert refused.value.body()["error"]["message"] == str(refused.value)


def test_every_directive_is_documented() -> None:
    named = set(re.findall(r"\[\[([a-z-]+)", demo.__doc__ or ""))
    assert named == {"words", "say", "refuse", "reason", "finish", "tool", "args", "no-tools", "delay"}
