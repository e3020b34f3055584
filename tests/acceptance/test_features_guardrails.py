"""Guardrails on what goes in and what comes out."""

import pytest

from tests.acceptance.conftest import Alike, AskAgent, Runs
from tests.acceptance.recorder import RecordingUpstream
from tests.harness import eventually

# The demo sets a boolean when the text has all words of its name.
HOMEWORK = "Is this math homework? Solve 2x = 4"
ENDLESS = "my secret [[words=1000]] [[delay=0.05]]"  # 50 s, were it not stopped


def test_input_guardrail_asks_an_agent_of_its_own_and_lets_pass(ask_agent: AskAgent) -> None:
    told, calls = ask_agent("default/guardinput", "When do you open?")

    assert "My instructions are: “Help customers.”. You said: “When do you open?”" in told.content
    assert sorted(call.system.split()[0] for call in calls) == ["Check", "Help"]


def test_input_guardrail_in_parallel_trips(ask_agent: AskAgent, under_runner: Runs) -> None:
    assert under_runner("GuardInput", HOMEWORK)[0].error == "InputGuardrailTripwireTriggered"

    told, _ = ask_agent("default/guardinput", HOMEWORK)

    assert told.finish_reason == "content_filter"
    assert told.content.endswith("This request was stopped by the agent's guardrail 'math_guardrail'.")


@pytest.mark.parametrize(("asked", "name"), [("my secret", "no_secrets"), ("damn it", "polite")])
def test_blocking_input_guardrail_asks_no_model(ask_agent: AskAgent, under_runner: Runs, asked: str, name: str) -> None:
    assert under_runner("GuardBlocking", asked)[0].error == "InputGuardrailTripwireTriggered"

    told, calls = ask_agent("default/guardblocking", asked)

    assert (told.content, told.finish_reason) == (
        f"This request was stopped by the agent's guardrail '{name}'.",
        "content_filter",
    )
    assert calls == []


def test_blocking_input_guardrails_let_others_pass(alike: Alike) -> None:
    alike("GuardBlocking", "Nothing to hide")


@pytest.mark.parametrize(
    ("variable", "asked", "name"),
    [
        ("text", "[[say=The code is 1234.]]", "no_digits"),
        ("structured", '[[say={"reply": "hm", "digits": 4}]]', "few_digits"),
        ("handing", "[[tool=transfer_to_guarded]] [[say=The code is 1234.]]", "no_digits"),
    ],
)
def test_output_guardrail_trips_before_anything_is_told(
    ask_agent: AskAgent, under_runner: Runs, variable: str, asked: str, name: str
) -> None:
    assert under_runner("GuardOutput", asked, variable=variable)[0].error == "OutputGuardrailTripwireTriggered"

    told, _ = ask_agent(f"default/guardoutput.{variable}", asked)

    assert told.content == f"This answer was stopped by the agent's guardrail '{name}'."
    assert told.finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("variable", "asked"),
    [
        ("text", "[[say=Nothing to count.]]"),
        ("structured", '[[say={"reply": "hm", "digits": 3}]]'),
        ("handing", "[[tool=transfer_to_guarded]] [[say=Nothing to count.]]"),
    ],
)
def test_output_guardrail_that_passes_releases_the_answer(alike: Alike, variable: str, asked: str) -> None:
    alike("GuardOutput", asked, variable=variable)


@pytest.mark.parametrize(
    ("asked", "content"),
    [
        ("[[say=Fine.]]", "Fine."),
        ("[[say=The code is 1234.]]", "I had better not say."),
    ],
)
def test_workflow_may_catch_its_output_guardrails(alike: Alike, asked: str, content: str) -> None:
    told, _ = alike("GuardWorkflow", asked, variable="run_workflow")

    assert told.content == content


def test_workflow_may_catch_the_output_guardrails_of_its_agents(alike: Alike) -> None:
    told, _ = alike("GuardWorkflowAgents", "[[say=The code is 1234.]]", variable="run_workflow")

    assert told.content == "I had better not say."


def test_workflow_may_catch_its_input_guardrails_at_once(ask_agent: AskAgent, upstream: RecordingUpstream) -> None:
    cut = upstream.cut_count()

    told, _ = ask_agent("default/guardworkflow", ENDLESS, timeout=5)

    assert told.content.endswith("I will not hear of that (secret word).")
    eventually(upstream.cut_count, cut + 1)


def test_parallel_input_guardrail_stops_the_model_at_once(ask_agent: AskAgent, upstream: RecordingUpstream) -> None:
    cut = upstream.cut_count()

    told, _ = ask_agent("default/guardparallel", ENDLESS, timeout=5)

    assert told.content.endswith("This request was stopped by the agent's guardrail 'no_secrets'.")
    assert told.finish_reason == "content_filter"
    eventually(upstream.cut_count, cut + 1)


@pytest.mark.parametrize("word", ["secret", "1234"])
def test_guardrail_of_an_agent_that_is_a_tool_is_told_to_the_model(
    ask_agent: AskAgent, under_runner: Runs, word: str
) -> None:
    asked = f'[[tool=ask]] [[args={{"input": "{word}"}}]]'
    expected, _ = under_runner("GuardInner", asked, variable="host")

    told, _ = ask_agent("default/guardinner.host", asked)  # whether the inner model is asked depends on who is first

    assert told.content == expected.content
    assert "The tool ask returned: An error occurred while running the tool." in told.content


@pytest.mark.parametrize(("word", "name"), [("secret", "no_secrets"), ("1234", "no_digits")])
def test_guardrail_of_an_agent_that_is_a_tool_may_end_the_run(
    ask_agent: AskAgent, under_runner: Runs, word: str, name: str
) -> None:
    asked = f'[[tool=ask_fatally]] [[args={{"input": "{word}"}}]]'
    assert under_runner("GuardInner", asked, variable="host")[0].error.endswith("GuardrailTripwireTriggered")

    told, _ = ask_agent("default/guardinner.host", asked)

    assert told.content.endswith(f"was stopped by the agent's guardrail '{name}'.")
    assert told.finish_reason == "content_filter"


def test_output_guardrail_looks_at_a_tools_result_that_is_the_answer(ask_agent: AskAgent, under_runner: Runs) -> None:
    asked = "[[tool=read_code]]"
    assert under_runner("GuardInner", asked, variable="stopping")[0].error == "OutputGuardrailTripwireTriggered"

    told, _ = ask_agent("default/guardinner.stopping", asked)

    assert told.content == "This answer was stopped by the agent's guardrail 'no_digits'."


@pytest.mark.parametrize(
    ("asked", "content"),
    [
        ("[[say=Fine.]]", "Fine."),
        ("[[say=The code is 1234.]]", "This answer was stopped by the agent's guardrail 'no_digits'."),
        ("my secret", "This request was stopped by the agent's guardrail 'no_secrets'."),
    ],
)
def test_guardrail_that_a_workflow_does_not_catch_declines(ask_agent: AskAgent, asked: str, content: str) -> None:
    told, _ = ask_agent("default/guardworkflowuncaught", asked)

    assert told.content == content


def test_thoughts_of_an_answer_that_was_stopped_are_not_told(ask_agent: AskAgent) -> None:
    told, _ = ask_agent("default/guardoutput.text", "[[reason=The code is 1234.]] [[say=It is 1234.]]")

    assert "1234" not in told.content + told.reasoning
