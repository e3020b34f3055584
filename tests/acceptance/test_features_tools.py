"""Function tools: what they take and return, how they fail, who may call them."""

import openai
import pytest

from tests.acceptance.conftest import Alike, AskAgent, Fails
from tests.acceptance.recorder import RecordingUpstream
from tests.harness import GatewayServer, eventually
from tests.harness.asking import Ask


@pytest.mark.parametrize(
    ("tool", "args", "returned"),
    [
        ("get_weather", '{"city": "Oslo", "unit": "fahrenheit"}', "21 degrees fahrenheit in Oslo."),
        ("fetch_weather", '{"location": {"lat": 1.5, "long": 2}}', "Sunny at 1.5, 2."),
        (
            "ship_order",
            """{"items": [{"name": "pen", "quantity": 2}], "address": {"street": "A", "zip_code": "12345"},
            "express": true, "note": null}""",
            "{'items': {'pen': 2}, 'street': 'A', 'express': True, 'note': None}",
        ),
        ("search", '{"query": "pen", "filters": {"color": "red"}, "limit": 1}', "[\"pen 0 {'color': 'red'}\"]"),
        ("whoami", '{"level": "short"}', "short: None, 1 request so far"),
        ("ping", "{}", "None"),
        ("add", '{"a": 1, "b": 2.5}', "3.5"),
    ],
)
def test_function_tool_takes_and_returns_what_it_says(alike: Alike, tool: str, args: str, returned: str) -> None:
    told, _ = alike("ToolFunctions", f"[[tool={tool}]] [[args={args}]]")

    assert f"The tool {tool} returned: {returned}" in told.content


@pytest.mark.parametrize(
    ("tool", "args", "returned"),
    [
        ("process_user", '{"username": "Ada", "age": 36}', "Ada is 36 years old"),
        ("count_stock", '{"name": "pen"}', "3"),
        ("greet_in_french", '{"name": "Ada"}', "Bonjour, Ada"),
        ("report", "{}", "day=datetime.date(2026, 1, 15) total=3"),
        ("numbers", "{}", "(1, 2, 3)"),
        ("raw_json", "{}", '{"ok": true, "umlaut": "\\u00fc"}'),
        ("nothing_at_all", "{}", ""),
    ],
)
def test_tool_built_by_hand_works(alike: Alike, tool: str, args: str, returned: str) -> None:
    told, _ = alike("ToolByHand", f"[[tool={tool}]] [[args={args}]]")

    assert f"The tool {tool} returned: {returned}" in told.content


@pytest.mark.parametrize("tool", ["draw", "write", "write_twice", "attach"])
def test_tool_that_returns_media_shows_the_model_the_same(alike: Alike, tool: str) -> None:
    alike("ToolOutputs", f"[[tool={tool}]]")


@pytest.mark.parametrize(
    ("tool", "returned"),
    [
        ("default_failure", "An error occurred while running the tool."),
        ("custom_failure", "Sorry, that did not work: ValueError: no weather in Oslo"),
        ("async_failure", "Sorry for the delay: no weather in Oslo"),
    ],
)
def test_failing_tool_is_told_to_the_model(alike: Alike, tool: str, returned: str) -> None:
    told, _ = alike("ToolFailures", f'[[tool={tool}]] [[args={{"city": "Oslo"}}]]')

    assert f"The tool {tool} returned: {returned}" in told.content


def test_failing_tool_without_failure_function_ends_the_run(fails: Fails) -> None:
    fails("ToolFailures", '[[tool=fatal_failure]] [[args={"city": "Oslo"}]]', raised="UserError", code="tool_error")


@pytest.mark.parametrize(
    ("tool", "returned"),
    [
        ("slow", "Tool 'slow' timed out after 0.05 seconds."),
        ("slow_with_words", "Too slow, try tomorrow."),
        ("quick", "in time"),
    ],
)
def test_tool_timeout_is_told_to_the_model(alike: Alike, tool: str, returned: str) -> None:
    told, _ = alike("ToolTimeouts", f"[[tool={tool}]]")

    assert f"The tool {tool} returned: {returned}" in told.content


def test_tool_timeout_that_raises_ends_the_run(fails: Fails) -> None:
    fails("ToolTimeouts", "[[tool=slow_and_fatal]]", raised="ToolTimeoutError", code="tool_timeout")


@pytest.mark.parametrize(
    ("to", "text", "returned"),
    [
        ("ada@example.com", "hi", "ada@example.com replied to hi"),
        ("ada@elsewhere.org", "hi", "Mail to ada@elsewhere.org is not allowed."),
        ("ada@example.com", "call 12345", "The reply was withheld."),
    ],
)
def test_tool_guardrail_passes_or_rejects(alike: Alike, to: str, text: str, returned: str) -> None:
    told, _ = alike("ToolGuards", f'[[tool=send_mail]] [[args={{"to": "{to}", "text": "{text}"}}]]')

    assert f"The tool send_mail returned: {returned}" in told.content


@pytest.mark.parametrize(
    ("to", "text", "raised"),
    [
        ("ada@evil.example", "hi", "ToolInputGuardrailTripwireTriggered"),
        ("ada@example.com", "my SSN", "ToolOutputGuardrailTripwireTriggered"),
    ],
)
def test_tool_guardrail_that_raises_ends_the_run(fails: Fails, to: str, text: str, raised: str) -> None:
    asked = f'[[tool=send_mail]] [[args={{"to": "{to}", "text": "{text}"}}]]'

    fails("ToolGuards", asked, raised=raised, code="tool_blocked")


def test_disabled_tools_are_not_offered(alike: Alike) -> None:
    _, calls = alike("ToolSwitches", "[[tool=show_map]]", context="Visitor")

    assert [call.tool_names for call in calls] == [["show_map", "greet"]] * 2


@pytest.mark.parametrize(
    ("tool", "args", "returned"),
    [
        (
            "inspect_call",
            '{"city": "Oslo"}',
            'inspect_call({"city": "Oslo"}) of Tool contexts, id True',
        ),
        ("count_tokens", "{}", "1 request, True"),
    ],
)
def test_tool_sees_its_own_call(alike: Alike, tool: str, args: str, returned: str) -> None:
    told, _ = alike("ToolContexts", f"[[tool={tool}]] [[args={args}]]")

    assert f"The tool {tool} returned: {returned}" in told.content


@pytest.mark.parametrize(
    ("variable", "tool", "content"),
    [
        ("run_again", "get_weather", None),
        ("first", "get_weather", "Rain in Oslo."),
        ("named", "get_weather", None),
        ("plain_dict", "get_weather", "Rain in Oslo."),
        ("function", "get_weather", "RAIN IN OSLO."),
        ("coroutine", "get_weather", None),
        ("typed", "measure", '{"city":"Oslo","degrees":21}'),
    ],
)
def test_tool_use_behaviour_decides_what_follows(alike: Alike, variable: str, tool: str, content: str | None) -> None:
    told, calls = alike("ToolBehaviours", f'[[tool={tool}]] [[args={{"city": "Oslo"}}]]', variable=variable)

    assert len(calls) == (2 if content is None else 1)
    assert content in (None, told.content)


def test_tool_result_that_is_a_model_is_told_as_python_words_it(alike: Alike) -> None:
    told, calls = alike("ToolBehaviours", '[[tool=measure]] [[args={"city": "Oslo"}]]', variable="named")

    assert (told.content, len(calls)) == ("city='Oslo' degrees=21", 1)


def test_gateways_tool_is_offered_and_called(ask_agent: AskAgent) -> None:
    days = '{"first": "2026-11-25", "second": "2026-12-24"}'

    told, calls = ask_agent("default/gatewaytools", f"[[tool=days_between]] [[args={days}]]")

    assert "The tool days_between returned: 29" in told.content
    assert [call.tool_names for call in calls] == [["order", "days_between", "shout", "ask_clerk"]] * 2
    assert calls[0].body["tools"][1]["function"]["description"] == "The days_between."


@pytest.mark.parametrize(
    ("agent", "asked"),
    [
        ("gatewaytools", '[[tool=ask_clerk]] [[args={"input": "Well?"}]]'),
        ("gatewaytoolsworkflow", "[[tool=order]] [[args={}]]"),
    ],
)
def test_gateways_tool_works_in_agents_inside(ask_agent: AskAgent, agent: str, asked: str) -> None:
    told, _ = ask_agent(f"default/{agent}", asked)

    assert "The tool order returned: 20" in told.content  # the time


@pytest.mark.parametrize(("variable", "choice"), [("required", "required"), ("none", "none")])
def test_tool_choice_reaches_the_model_once(alike: Alike, variable: str, choice: str) -> None:
    _, calls = alike("ToolChoices", "How is the weather in Oslo?", variable=variable)

    assert [call.body.get("tool_choice") for call in calls] == ([choice] if choice == "none" else [choice, None])


def test_tool_choice_names_a_tool(alike: Alike) -> None:
    told, _ = alike("ToolChoices", "How is the weather in Oslo?", variable="named")

    assert "The tool get_time returned: Noon in Oslo." in told.content


def test_tool_choice_that_is_kept_is_asked_for_every_turn(alike: Alike) -> None:
    _, calls = alike("ToolChoices", "How is the weather in Oslo?", variable="kept")

    assert [call.body["tool_choice"] for call in calls] == ["required"] * len(calls)


@pytest.mark.parametrize(("tool", "runs", "told_last"), [("translate", 1, "French"), ("translate_twice", 2, "English")])
def test_sync_tool_may_run_an_agent(ask_agent: AskAgent, tool: str, runs: int, told_last: str) -> None:
    """Runner itself fails here: its one client belongs to the loop that the thread does not have."""
    told, calls = ask_agent("default/toolsyncrunner", f'[[tool={tool}]] [[args={{"text": "Good morning"}}]]')

    assert len(calls) == 2 + runs
    assert f"The tool {tool} returned: This is the built-in demo upstream" in told.content
    assert f"My instructions are: “Translate to {told_last}.”" in told.content


@pytest.mark.parametrize("tool", ["give_up", "give_up_async", "interrupt"])
def test_tool_that_exits_ends_neither_the_gateway_nor_other_runs(
    client: openai.OpenAI, ask: Ask, dropins: GatewayServer, tool: str
) -> None:
    before = dropins.pid
    with pytest.raises(openai.APIError) as caught:
        ask(client, "default/toolexits", f"[[tool={tool}]]")

    assert "sys.exit()" in caught.value.message
    assert "The tool pid returned:" in ask(client, "default/toolexits", "[[tool=pid]]").content
    assert (dropins.is_running, dropins.pid) == (True, before)


def test_tool_that_talks_to_the_terminal_answers(alike: Alike) -> None:
    told, _ = alike("ToolPrints", '[[tool=chatter]] [[args={"name": "Ada"}]]')

    assert "The tool chatter returned: said" in told.content


def test_tool_that_asks_the_terminal_is_an_error_the_model_is_told(ask_agent: AskAgent) -> None:
    told, _ = ask_agent("default/toolprints", "[[tool=ask_terminal]]")

    assert "The tool ask_terminal returned: An error occurred while running the tool." in told.content


def test_tool_may_stream_an_agent_and_tell_a_part(alike: Alike) -> None:
    told, _ = alike("ToolStreams", '[[tool=first_words]] [[args={"count": 2}]]')

    assert "The tool first_words returned: ['word1', 'word2'] of word9" in told.content


def test_tool_may_stop_a_stream_half_way(ask_agent: AskAgent, upstream: RecordingUpstream) -> None:
    cut = upstream.cut_count()

    told, _ = ask_agent("default/toolstreams", "[[tool=impatient]]", timeout=5)

    assert "The tool impatient returned: only word1" in told.content
    eventually(upstream.cut_count, cut + 1)
