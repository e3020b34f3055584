"""Declared agents on POST /v1/chat/completions: the model, the gateway's tools and the client's own in turn."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.fakes.scripted_upstream import Answer, ScriptedUpstream, call, calls, piece, roles, says
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import ask_streamed, ask_whole

AGENT = "desk/helper"
LOCATE = {
    "type": "function",
    "function": {
        "name": "locate",
        "description": "Where the user is.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"exact": {"type": "boolean"}},
            "required": ["exact"],
            "additionalProperties": False,
        },
    },
}
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        server.answers_tool("weather", {"sky": "rain"})
        server.answers_tool("search", {"found": ["one"]})
        server.answers_tool("launch", {"launched": True})
        yield server


@pytest.fixture(scope="module")
def desk(
    tmp_path_factory: pytest.TempPathFactory, template: Template, upstream: ScriptedUpstream
) -> Iterator[GatewayServer]:
    """A gateway with a declared agent, and the tools that it is lent."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "agents").mkdir()
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, GATEWAY_MAX_TURNS="4") as server:
        put = server.operator
        put.put_upstream("scripted", kind="other", base_url=upstream.base_url, default_model="m", models=["m", "eyes"])
        put.put_upstream("scripted", kind="other", is_default=True, models=["m", "eyes"])
        for name, schema in SCHEMAS.items():
            put.make(
                "tools.Tool",
                name=name,
                kind="http",
                method="POST",
                description=f"About {name}.",
                url=f"{upstream.url}/tools/{name}",
                parameters=schema,
                allow_private_hosts=True,
                needs_approval=name.startswith(("launch", "land")),
            )
        declare(server, "helper", instructions="You help.", tools=["weather", "search", "launch", "land", "gone"])
        yield server


SCHEMAS: dict[str, Any] = {
    "weather": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "search": {"type": "object", "properties": {"text": {"type": "string"}}},
    "launch": {"type": "object", "properties": {"city": {"type": "string"}}},
    "land": {"type": "object", "properties": {}},
}


def declare(server: GatewayServer, name: str, **fields: Any) -> str:
    """A live agent, once the gateway serves it; its id."""
    server.operator.make("catalog.DeclaredAgent", namespace="desk", name=name, stage="live", **fields)
    agent = f"desk/{name}"
    eventually(lambda: agent in [one.id for one in server.openai().models.list()], True)
    return agent


def whole(client: openai.OpenAI, messages: Any, model: str = AGENT, **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=messages, **options)


def streamed(client: openai.OpenAI, messages: Any, model: str = AGENT, **options: Any) -> Any:
    """What the official client makes of the stream."""
    options["stream_options"] = {"include_usage": True}
    with client.chat.completions.stream(model=model, messages=messages, **options) as stream:
        return stream.get_final_completion()


@pytest.fixture(params=[whole, streamed], ids=["whole", "streamed"])
def ask(request: pytest.FixtureRequest, desk: GatewayServer) -> Ask:
    """`ask("text" or messages)`: the completion, whole or as the official client puts a stream together."""
    client = desk.openai()

    def asked(messages: Any, **options: Any) -> Any:
        given = user(messages) if isinstance(messages, str) else messages
        return request.param(client, given, **options)

    return asked


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def said(completion: Any) -> tuple[str | None, str]:
    (choice,) = completion.choices
    return choice.message.content, choice.finish_reason


def client_calls(completion: Any) -> list[tuple[str, str, str]]:
    return [
        (one.id, one.function.name, one.function.arguments) for one in completion.choices[0].message.tool_calls or ()
    ]


def answered(completion: Any, *results: str) -> list[dict[str, Any]]:
    """What a client sends back: the assistant's message as it had it, and a result for each call."""
    message = completion.choices[0].message
    made = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id, name, arguments in client_calls(completion)
    ]
    return [
        {"role": "assistant", "content": message.content or None, "tool_calls": made},
        *(
            {"role": "tool", "tool_call_id": one["id"], "content": result}
            for one, result in zip(made, results, strict=True)
        ),
    ]


def results(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """(call id, content) of the tool messages of a request; JSON is read."""
    return [(one["tool_call_id"], _read(one["content"])) for one in body["messages"] if one["role"] == "tool"]


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def refusal(error: openai.APIStatusError) -> tuple[int, Any]:
    assert isinstance(error.body, dict)
    return error.status_code, error.body["message"]


# --- the model -------------------------------------------------------------------------------------------------------


def test_answer_is_the_models_with_its_usage(ask: Ask, upstream: ScriptedUpstream, desk: GatewayServer) -> None:
    upstream.will(says("Hel", "lo", usage=(7, 3)))

    answer = ask("Hi", temperature=0.5, max_completion_tokens=99, user="u1")

    assert said(answer) == ("Hello", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 3, 10)
    (body,) = upstream.asked
    assert body["messages"] == [{"role": "system", "content": "You help."}, {"role": "user", "content": "Hi"}]
    given = {name: body[name] for name in ("model", "temperature", "max_tokens", "user")}
    assert given == {"model": "m", "temperature": 0.5, "max_tokens": 99, "user": "u1"}
    assert [tool["function"] for tool in body["tools"]] == [
        {"name": name, "description": f"About {name}.", "parameters": schema} for name, schema in SCHEMAS.items()
    ]
    run = desk.wait_for_run(id=answer.id)
    told = {name: run[name] for name in ("agent_id", "outcome", "model_calls", "prompt_tokens", "tokens_estimated")}
    assert told == {
        "agent_id": AGENT, "outcome": "completed", "model_calls": 1, "prompt_tokens": 7, "tokens_estimated": False,
    }  # fmt: skip


def test_text_of_the_model_streams_before_its_end(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    gate = threading.Event()
    upstream.will(says("first", "last", gate=gate))

    with desk.openai().chat.completions.create(model=AGENT, messages=user("Hi"), stream=True) as stream:  # type: ignore[arg-type]
        texts = (one.choices[0].delta.content for one in stream if one.choices)
        assert next(text for text in texts if text) == "first"
        gate.set()
        assert [text for text in texts if text] == ["last"]


@pytest.mark.parametrize("asked", [ask_whole, ask_streamed])
def test_reasoning_refusal_and_cut_answers_are_told(
    asked: Any, desk: GatewayServer, upstream: ScriptedUpstream
) -> None:
    upstream.will(
        Answer([{"reasoning": "Hm."}, {"content": "So"}], "length"),
        Answer([{"refusal": "No."}]),
        Answer([{"content": "half"}], "content_filter"),
        calls(call("search"), text=["I will"], finish_reason="length"),
    )

    told = [asked(desk.openai(), AGENT, "Hi") for _ in range(4)]

    assert [(one.content, one.finish_reason, one.refusal, one.reasoning) for one in told] == [
        ("So", "length", None, "Hm."),
        ("", "stop", "No.", ""),
        ("half", "content_filter", None, ""),
        ("I will", "length", None, ""),
    ]
    assert upstream.called == []


def test_images_and_history_reach_the_model_as_they_are(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(says("A cat."))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    history = [
        {"role": "system", "content": "Be brief."},
        *user("Hello"),
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]},
    ]

    ask(history)

    assert upstream.asked[0]["messages"] == [{"role": "system", "content": "You help."}, *history]


def test_agents_settings_are_defaults_and_its_format_stands(
    ask: Ask, desk: GatewayServer, upstream: ScriptedUpstream, request: pytest.FixtureRequest
) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "sum", "schema": {"type": "object"}}}
    agent = declare(
        desk,
        f"formal-{request.node.callspec.id}",
        model="eyes",
        parameters={"temperature": 0.1, "max_completion_tokens": 5, "seed": 1},
        response_format=schema,
    )
    upstream.will(says("{}"))

    ask("Hi", model=agent, temperature=0.9, max_tokens=8, response_format={"type": "text"})

    (body,) = upstream.asked
    assert {name: value for name, value in body.items() if not name.startswith("stream")} == {
        "model": "eyes",
        "messages": user("Hi"),
        "temperature": 0.9,
        "max_tokens": 8,
        "seed": 1,
        "response_format": schema,
    }


def test_vllm_is_asked_for_the_format_once_it_needs_no_more_tools(
    ask: Ask, desk: GatewayServer, upstream: ScriptedUpstream, request: Any
) -> None:
    """With a format it would call none."""
    mode = request.node.callspec.id
    desk.operator.put_upstream(f"vllm-{mode}", kind="vllm", base_url=upstream.base_url, models=[f"v-{mode}"])
    agent = declare(
        desk, f"strict-{mode}", model=f"v-{mode}", tools=["search"], response_format={"type": "json_object"}
    )
    upstream.will(calls(call("search"), text=["Let me see."]), says("It is one."), says('{"found": 1}'))

    assert said(ask("Go", model=agent)) == ('{"found": 1}', "stop")

    assert [("tools" in body, "response_format" in body) for body in upstream.asked] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert roles(upstream.asked[2]["messages"]) == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("parameter", "value"), [("n", 2), ("logprobs", True), ("functions", [{"name": "f"}]), ("web_search_options", {})]
)
def test_parameter_that_cannot_be_honoured_is_refused(
    desk: GatewayServer, upstream: ScriptedUpstream, parameter: str, value: Any
) -> None:
    upstream.will()

    with pytest.raises(openai.BadRequestError) as caught:
        whole(desk.openai(), user("Hi"), **{parameter: value})

    assert (caught.value.param, caught.value.code) == (parameter, "unsupported_parameter")
    assert upstream.asked == []


# --- the gateway's tools ---------------------------------------------------------------------------------------------


def test_tools_of_one_turn_run_at_once_and_answer_in_order(ask: Ask, upstream: ScriptedUpstream) -> None:
    first = threading.Event()
    upstream.answers_tool("weather", {"sky": "rain"}, gate=first)
    upstream.will(
        calls(
            piece(0, "", name="weather", id="a"),
            piece(0, '{"ci'),
            piece(1, "", name="search", id="b"),
            piece(0, 'ty": "Oslo"}'),
            piece(1, '{"text": "x"}'),
            text=["Let me ", "look."],
            usage=(10, 5),
        ),
        says("It ", "rains.", usage=(20, 2)),
    )

    def open_once_both_are_called() -> None:
        eventually(lambda: sorted(name for name, _ in upstream.called), ["search", "weather"])
        first.set()

    opener = threading.Thread(target=open_once_both_are_called)
    opener.start()
    answer = ask("Weather?")
    opener.join()

    assert said(answer) == ("Let me look.\n\nIt rains.", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (30, 7)
    assert dict(upstream.called) == {"weather": {"city": "Oslo"}, "search": {"text": "x"}}
    _, second = upstream.asked
    assert second["messages"][2:] == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
                {"id": "b", "type": "function", "function": {"name": "search", "arguments": '{"text": "x"}'}},
            ],
        },
        *second["messages"][3:],
    ]
    assert results(second) == [("a", {"sky": "rain"}), ("b", {"found": ["one"]})]


def test_calls_go_on_for_several_rounds_whatever_the_server_calls_them(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(
        calls(call("search", "call_0"), finish_reason="stop"),
        calls(call("search", "call_0"), finish_reason="stop"),
        calls(call("search", index=None), call("weather", index=None, city="Bergen")),
        says("Done."),
    )

    answer = ask("Go")

    assert said(answer) == ("Done.", "stop")
    last = upstream.asked[-1]
    ids = [one["id"] for message in last["messages"] for one in message.get("tool_calls", ())]
    assert (ids[0], len(set(ids))) == ("call_0", 4)
    assert [id for id, _ in results(last)] == ids
    assert answer.usage.prompt_tokens == 40


def test_model_is_told_of_names_and_arguments_that_make_no_sense(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(
        calls(call("wether", "a"), piece(1, "{not JSON", name="search", id="b"), call("weather", "c", index=2)),
        says("Sorry."),
    )

    assert said(ask("Go")) == ("Sorry.", "stop")

    told = dict(results(upstream.asked[1]))
    assert told["a"] == "There is no tool 'wether'. Did you mean 'weather'?"
    assert "JSON" in told["b"]
    assert "city" in told["c"]
    (message,) = [one for one in upstream.asked[1]["messages"] if one["role"] == "assistant"]
    assert json.loads(message["tool_calls"][1]["function"]["arguments"]) == {"unreadable": "{not JSON"}
    assert upstream.called == []


def test_last_model_call_is_offered_no_tools_and_a_run_without_answer_ends(
    ask: Ask, upstream: ScriptedUpstream, desk: GatewayServer
) -> None:
    upstream.will(*[calls(call("search"))] * 3, says("That is all I found."))
    assert said(ask("Go")) == ("That is all I found.", "stop")
    assert ["tools" in body for body in upstream.asked] == [True, True, True, False]

    upstream.will(*[calls(call("search"))] * 4)
    with pytest.raises(openai.APIError) as caught:
        ask("Go")

    assert (caught.value.code, len(upstream.asked), len(upstream.called)) == ("max_turns", 4, 3)
    assert "after 4 model calls" in str(caught.value)


def test_tool_that_a_rule_denies_is_not_offered_and_not_called(
    ask: Ask, upstream: ScriptedUpstream, desk: GatewayServer
) -> None:
    rule = desk.operator.make("access.ToolRule", effect="deny", pattern="search", note="Not today.")
    try:
        upstream.will(says("-"))
        eventually(lambda: ask_names(ask, upstream), ["weather", "launch", "land"])
        upstream.will(calls(call("search", "a")), says("Sorry."))
        ask("Go")
    finally:
        desk.operator.remove("access.ToolRule", rule)

    assert results(upstream.asked[1]) == [("a", "The tool 'search' is not allowed here: Not today. Go on without it.")]
    assert upstream.called == []
    eventually(lambda: ask_names(ask, upstream), list(SCHEMAS))


def ask_names(ask: Ask, upstream: ScriptedUpstream) -> list[str]:
    upstream.will(says("-"))
    ask("Hi")
    return [tool["function"]["name"] for tool in upstream.asked[0]["tools"]]


def test_missing_tools_are_logged_once(ask: Ask, upstream: ScriptedUpstream, desk: GatewayServer) -> None:
    upstream.will(says("1"), says("2"))
    ask("Hi")
    ask("Hi")

    desk.wait_for_log(event="agent_tools_missing", agent=AGENT)
    assert [line["tools"] for line in desk.log(event="agent_tools_missing", agent=AGENT)] == [["gone"]]


def test_fault_of_the_server_in_a_later_round_is_an_error(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    upstream.will(calls(call("search")), Answer(status=503))
    with pytest.raises(openai.InternalServerError) as caught:
        whole(desk.openai(), user("Go"))
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")

    upstream.will(calls(call("search"), text=["Look:"]), says("half", is_cut=True))
    texts, error = read_until_error(desk.openai(), "Go")
    assert ("".join(texts), error.code) == ("Look:\n\nhalf", "upstream_cut")
    run = desk.wait_for_run(error_code="upstream_cut", agent_id=AGENT)
    assert (run["outcome"], run["model_calls"], run["tokens_estimated"]) == ("failed", 2, True)


def read_until_error(client: openai.OpenAI, text: str) -> tuple[list[str], openai.APIError]:
    """The texts of a stream that an error ends."""
    texts: list[str] = []
    try:
        for chunk in client.chat.completions.create(model=AGENT, messages=user(text), stream=True):  # type: ignore[arg-type]
            texts.extend(choice.delta.content for choice in chunk.choices if choice.delta.content)
    except openai.APIError as error:
        return texts, error
    raise AssertionError(f"the stream ended well, with {texts}")


def test_client_that_leaves_ends_the_call_of_a_tool(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    upstream.answers_tool("search", {}, gate=threading.Event())
    upstream.will(calls(call("search"), text=["Looking."]))
    stream = desk.openai().chat.completions.create(model=AGENT, messages=user("Go"), stream=True)  # type: ignore[arg-type]
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    eventually(lambda: upstream.called, [("search", {})])

    stream.close()

    eventually(lambda: upstream.left, ["/tools/search"])
    upstream.answers_tool("search", {"found": ["one"]})
    assert desk.wait_for_run(id=chunk.id)["outcome"] == "cancelled"


def test_client_that_leaves_ends_the_answer_of_the_model(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    upstream.will(says("One", "two", gate=threading.Event()))
    stream = desk.openai().chat.completions.create(model=AGENT, messages=user("Go"), stream=True)  # type: ignore[arg-type]
    chunk = next(one for one in stream if one.choices[0].delta.content)

    stream.close()

    eventually(lambda: upstream.left, ["/v1/chat/completions"])
    assert desk.wait_for_run(id=chunk.id)["outcome"] == "cancelled"


def test_run_goes_on_without_its_client_where_the_operator_says_so(
    desk: GatewayServer, upstream: ScriptedUpstream
) -> None:
    agent = declare(desk, "dutiful", tools=["search", "weather"], on_disconnect="drain")
    gate = threading.Event()
    upstream.answers_tool("search", {"found": []}, gate=gate)
    upstream.will(calls(call("search"), text=["Looking."]), calls(call("weather", city="Oslo")), says("Done."))
    stream = desk.openai().chat.completions.create(model=agent, messages=user("Go"), stream=True)  # type: ignore[arg-type]
    chunk = next(one for one in stream if one.choices[0].delta.content)

    stream.close()
    gate.set()

    run = desk.wait_for_run(id=chunk.id)
    assert (run["outcome"], run["model_calls"], [name for name, _ in upstream.called]) == (
        "completed",
        3,
        ["search", "weather"],
    )
    upstream.answers_tool("search", {"found": ["one"]})


def test_headers_leave_while_a_tool_is_still_silent(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    gate = threading.Event()
    upstream.answers_tool("search", {"found": []}, gate=gate)
    upstream.will(calls(call("search")), says("Nothing."))

    with desk.openai().chat.completions.with_streaming_response.create(
        model=AGENT,
        messages=user("Go"),  # type: ignore[arg-type]
        stream=True,
    ) as response:
        is_open_before_the_tool = response.status_code == 200 and not gate.is_set()
        gate.set()
        body = response.read().decode()

    assert is_open_before_the_tool
    assert '"content":"Nothing."' in body
    upstream.answers_tool("search", {"found": ["one"]})


def test_instructions_are_filled_in(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    agent = declare(desk, "polite", title="The Desk", instructions="You are {{agent}}, for {{user}}. {{x}}")
    upstream.will(says("Hi."))

    whole(desk.openai(), [{"role": "system", "content": "{{agent}}"}, *user("{{user}}")], model=agent)

    assert [one["content"] for one in upstream.asked[0]["messages"]] == [
        "You are The Desk, for the user. {{x}}",
        "{{agent}}",
        "{{user}}",
    ]


def test_run_that_takes_too_long_is_ended(
    ask: Ask, desk: GatewayServer, upstream: ScriptedUpstream, request: Any
) -> None:
    agent = declare(desk, f"hasty-{request.node.callspec.id}", tools=["search"], run_timeout=1.5)
    upstream.answers_tool("search", {}, gate=threading.Event())
    upstream.will(calls(call("search")))

    with pytest.raises(openai.APIError) as caught:
        ask("Go", model=agent)

    assert (caught.value.code, "1.5 s" in str(caught.value)) == ("run_timeout", True)
    eventually(lambda: upstream.left, ["/tools/search"])
    upstream.answers_tool("search", {"found": ["one"]})


# --- the client's tools ----------------------------------------------------------------------------------------------


def test_clients_tool_is_called_by_the_client(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(
        calls(piece(0, "", name="locate", id="a"), piece(0, '{"exact"'), piece(0, ": true}"), usage=(9, 4)),
        says("You are in Oslo."),
    )

    wanted = ask("Where am I?", tools=[LOCATE])

    assert said(wanted) == (None, "tool_calls") or said(wanted) == ("", "tool_calls")
    ((id, name, arguments),) = client_calls(wanted)
    assert (name, arguments, wanted.usage.completion_tokens) == ("locate", '{"exact": true}', 4)
    assert [one["function"]["name"] for one in upstream.asked[0]["tools"]] == [*SCHEMAS, "locate"]

    answer = ask([*user("Where am I?"), *answered(wanted, "Oslo")], tools=[LOCATE])

    assert said(answer) == ("You are in Oslo.", "stop")
    assert roles(upstream.asked[1]["messages"]) == ["system", "user", "assistant", "tool"]
    assert results(upstream.asked[1]) == [(id, "Oslo")]


def test_pieces_of_a_clients_call_stream_as_they_come(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    upstream.will(
        calls(
            call("search", "hidden"),
            piece(1, "", name="locate", id="a"),
            piece(1, '{"exact": '),
            piece(1, "true}"),
            call("locate", "b", index=2, exact=False),
        )
    )

    stream = desk.openai().chat.completions.create(model=AGENT, messages=user("Go"), stream=True, tools=[LOCATE])  # type: ignore[arg-type,list-item]
    choices = [chunk.choices[0] for chunk in stream]

    pieces = [one for choice in choices for one in choice.delta.tool_calls or ()]
    assert [(one.index, one.function.name, one.function.arguments) for one in pieces if one.function] == [
        (0, "locate", ""),
        (0, None, '{"exact": '),
        (0, None, "true}"),
        (1, "locate", '{"exact": false}'),
    ]
    assert [bool(one.id) for one in pieces] == [True, False, False, True]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]


def test_mixed_tools_make_one_sound_conversation(ask: Ask, upstream: ScriptedUpstream) -> None:
    """Rounds of the gateway's tools before, beside and after the client's calls: the model sees all of it."""
    upstream.will(
        calls(call("search", "s1", text="before"), text=["Searching."]),
        calls(call("weather", "w1", city="Oslo"), call("locate", "l1", index=1, exact=True), text=["Where?"]),
    )
    first = ask("Go", tools=[LOCATE])
    assert said(first) == ("Searching.\n\nWhere?", "tool_calls")
    history = [*user("Go"), *answered(first, "Oslo")]

    upstream.will(
        calls(call("search", "s2", text="after")),
        calls(call("locate", "l2", exact=False)),
    )
    second = ask(history, tools=[LOCATE])

    body = upstream.asked[0]
    (client_id,) = [id for id, _, _ in client_calls(first)]
    assert roles(body["messages"]) == ["system", "user", "assistant", "tool", "assistant", "tool", "tool"]
    assert results(body) == [("s1", {"found": ["one"]}), ("w1", {"sky": "rain"}), (client_id, "Oslo")]
    assert [[one["function"]["name"] for one in message.get("tool_calls", ())] for message in body["messages"]] == [
        [], [], ["search"], [], ["weather", "locate"], [], [],
    ]  # fmt: skip

    upstream.will(says("All done."))
    history += answered(second, "Oslo, too")
    assert said(ask(history, tools=[LOCATE])) == ("All done.", "stop")

    (body,) = upstream.asked
    assert [result for _, result in results(body)] == [
        {"found": ["one"]}, {"sky": "rain"}, "Oslo", {"found": ["one"]}, "Oslo, too",
    ]  # fmt: skip
    made = [one["id"] for message in body["messages"] for one in message.get("tool_calls", ())]
    assert made == [id for id, _ in results(body)]


def test_hidden_rounds_are_another_keys_never(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    upstream.will(calls(call("search", "s1"), call("locate", "l1", index=1, exact=True)))
    first = whole(desk.openai(), user("Go"), tools=[LOCATE])
    key = desk.operator.issue_key("Another")["credential"]
    eventually(lambda: desk.request("GET", "/v1/models", headers={"x-api-key": key}).status, 200)

    upstream.will(says("-"), says("-"))
    history = [*user("Go"), *answered(first, "Oslo")]
    whole(desk.openai(key), history, tools=[LOCATE])
    whole(desk.openai(), history, tools=[LOCATE])

    assert [[result for _, result in results(body)] for body in upstream.asked] == [
        ["Oslo"],
        [{"found": ["one"]}, "Oslo"],
    ]


def test_call_that_the_client_never_answered_is_no_part_of_the_history(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(calls(call("locate", "l1", exact=True), text=["Where?"]), says("As you like."))
    first = ask("Go", tools=[LOCATE])
    unanswered = answered(first, "-")[0]

    ask([*user("Go"), unanswered, *user("Never mind.")], tools=[LOCATE])

    assert upstream.asked[1]["messages"][1:] == [
        *user("Go"), {"role": "assistant", "content": "Where?"}, *user("Never mind."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tools": [{"type": "function", "function": {"name": "search"}}]},
            "The agent 'desk/helper' has a tool 'search' itself. Give yours another name.",
        ),
        (
            {"tools": [{"type": "web_search"}]},
            "tools[0] is not a function with a name; declared agents take no other kind of tool.",
        ),
        (
            {"tool_choice": {"type": "function", "function": {"name": "serch"}}},
            "tool_choice names the tool 'serch', which 'desk/helper' does not have. Did you mean 'search'?",
        ),
        ({"tool_choice": "always"}, "tool_choice is auto, none, required, or a function by its name."),
    ],
)
def test_tools_that_make_no_sense_are_refused_before_the_model_is_asked(
    ask: Ask, upstream: ScriptedUpstream, options: dict[str, Any], message: str
) -> None:
    upstream.will()

    with pytest.raises(openai.BadRequestError) as caught:
        ask("Go", **options) if "tools" not in options else ask_raw(ask, options)

    assert refusal(caught.value) == (400, message)
    assert upstream.asked == []


def ask_raw(ask: Ask, options: dict[str, Any]) -> Any:
    """Past the checks that the official client's helper makes itself."""
    return ask("Go", extra_body=options)


def test_forced_choice_is_for_the_first_model_call(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(calls(call("search")), says("Done."), says("None."))

    ask("Go", tool_choice="required")
    ask("Go", tool_choice="none")

    assert [body.get("tool_choice") for body in upstream.asked] == ["required", None, "none"]


def test_agents_choice_counts_until_a_tool_was_called(desk: GatewayServer, upstream: ScriptedUpstream) -> None:
    agent = declare(desk, "eager", tools=["search"], tool_choice="search", parallel_tool_calls=False)
    named = {"type": "function", "function": {"name": "search"}}
    upstream.will(calls(call("search")), calls(call("locate", exact=True)), says("Done."))

    first = whole(desk.openai(), user("Go"), model=agent, tools=[LOCATE])
    whole(desk.openai(), [*user("Go"), *answered(first, "Oslo")], model=agent, tools=[LOCATE], parallel_tool_calls=True)

    asked = [(body.get("tool_choice"), body["parallel_tool_calls"]) for body in upstream.asked]
    assert asked == [(named, False), (None, False), (None, True)]


# --- approvals -------------------------------------------------------------------------------------------------------

REFERENCE = re.compile(r"\(reference (apr_[0-9a-f]{16})\)$")


def test_call_that_needs_approval_waits_and_is_made_once_approved(
    ask: Ask, upstream: ScriptedUpstream, desk: GatewayServer
) -> None:
    upstream.will(
        calls(call("search", "s1")),
        calls(call("weather", "w1", city="Oslo"), call("launch", "a1", index=1, city="Oslo"), text=["Soon."]),
    )

    asked = ask("Launch")

    text, reason = said(asked)
    assert text is not None
    assert text.startswith(
        'Soon.\n\nI need your approval before I go on. I want to call:\n\n1. **launch** `{"city": "Oslo"}`'
    )
    assert (reason, [name for name, _ in upstream.called]) == ("stop", ["search", "weather"])
    assert desk.wait_for_run(id=asked.id)["outcome"] == "waiting"

    upstream.will(says("Launched."))
    history = [*user("Launch"), {"role": "assistant", "content": text}, *user("approve")]
    assert said(ask(history)) == ("Launched.", "stop")

    assert upstream.called == [("launch", {"city": "Oslo"})]
    (body,) = upstream.asked
    assert roles(body["messages"]) == ["system", "user", "assistant", "tool", "assistant", "tool", "tool"]
    assert results(body) == [("s1", {"found": ["one"]}), ("w1", {"sky": "rain"}), ("a1", {"launched": True})]
    with pytest.raises(openai.ConflictError) as caught:
        ask(history)
    assert caught.value.code == "approval_closed"


def test_some_calls_are_approved_and_the_model_hears_of_the_others(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(calls(call("land", "a"), call("launch", "b", index=1), call("launch", "c", index=2, city="Bergen")))
    text, _ = said(ask("Go"))
    assert text is not None
    found = REFERENCE.search(text)
    assert found

    upstream.will(says("One."))
    ask(f"approve 2 {found[1]}")

    assert upstream.called == [("launch", {})]
    no = "A person rejected this tool call."
    assert results(upstream.asked[0]) == [("a", no), ("b", {"launched": True}), ("c", no)]


def test_rejection_is_told_with_its_reason(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(calls(call("launch", "a")))
    text, _ = said(ask("Go"))

    upstream.will(says("As you wish."))
    answer = ask([*user("Go"), {"role": "assistant", "content": text}, *user("reject: too windy")])

    assert said(answer) == ("As you wish.", "stop")
    assert results(upstream.asked[0]) == [("a", "A person rejected this tool call: too windy")]
    assert upstream.called == []


def test_approval_and_a_clients_call_in_one_answer(ask: Ask, upstream: ScriptedUpstream) -> None:
    """The answer can end in one way only: the client's."""
    upstream.will(calls(call("launch", "a"), call("locate", "l", index=1, exact=True)))
    first = ask("Go", tools=[LOCATE])
    assert first.choices[0].finish_reason == "tool_calls"

    upstream.will(calls(call("launch", "b")))
    text, _ = said(ask([*user("Go"), *answered(first, "Oslo")], tools=[LOCATE]))

    assert text is not None
    assert text.startswith("I need your approval")
    (told, located) = results(upstream.asked[0])
    assert told[1].startswith("The tool 'launch' was not called: a person has to approve it")
    assert located[1] == "Oslo"
    assert upstream.called == []


def test_clients_call_after_an_approval_keeps_what_was_approved(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.will(calls(call("search", "s")), calls(call("launch", "a")))
    text, _ = said(ask("Go", tools=[LOCATE]))
    history = [*user("Go"), {"role": "assistant", "content": text}, *user("approve")]

    upstream.will(calls(call("locate", "l", exact=True)), says("Done."))
    wanted = ask(history, tools=[LOCATE])
    assert wanted.choices[0].finish_reason == "tool_calls"
    ask([*history, *answered(wanted, "Oslo")], tools=[LOCATE])

    last = upstream.asked[-1]
    assert roles(last["messages"][1:]) == [
        "user", "assistant", "user", "assistant", "tool", "assistant", "tool", "assistant", "tool",
    ]  # fmt: skip
    assert [content for _, content in results(last)] == [{"found": ["one"]}, {"launched": True}, "Oslo"]
