"""What real modules do beyond the manual: callbacks that raise, threads, strange returns, hands on the process."""

import openai
import pytest

from tests.acceptance.conftest import Alike, AskAgent, Fails
from tests.acceptance.recorder import RecordingUpstream
from tests.harness import eventually
from tests.harness.asking import Ask, ask_streamed


@pytest.mark.parametrize(
    ("variable", "asked"),
    [
        ("in_input", "Hi"),
        ("in_output", "Hi"),
        ("in_instructions", "Hi"),
        ("in_hooks", "Hi"),
        ("in_switch", "Hi"),
        ("in_callback", "[[tool=transfer_to_other]]"),
        ("in_filter", "[[tool=transfer_to_other]]"),
        ("in_behaviour", "[[tool=fine]]"),
    ],
)
def test_callback_that_raises_is_an_error_of_the_agent(fails: Fails, variable: str, asked: str) -> None:
    fails("OddRaises", asked, variable=variable, raised="LookupError", code="agent_error")


@pytest.mark.parametrize(
    ("variable", "asked"), [("in_tool_hooks", "[[tool=fine]]"), ("in_tool", "[[tool=fatal_group]]")]
)
def test_tool_that_raises_by_its_hooks_or_in_a_group_is_an_error_of_the_tool(
    fails: Fails, variable: str, asked: str
) -> None:
    fails("OddRaises", asked, variable=variable, raised="UserError", code="tool_error")


@pytest.mark.parametrize(
    ("variable", "tool"),
    [("in_extractor", "ask"), ("in_tool", "cancelled"), ("in_tool", "cancels_itself"), ("in_tool", "group")],
)
def test_tool_that_raises_oddly_is_told_to_the_model(alike: Alike, variable: str, tool: str) -> None:
    told, _ = alike("OddRaises", f"[[tool={tool}]]", variable=variable)

    assert f"The tool {tool} returned: An error occurred while running the tool." in told.content


def test_result_of_a_run_in_a_workflow_offers_everything(alike: Alike) -> None:
    alike("OddResults", "Hello", variable="run_workflow", told_before=True)


@pytest.mark.parametrize(
    ("asked", "rounds"),
    [
        ('[[tool=delete]] [[tool=pay]] [[args={"name": "secret"}]] [[args={"amount": 12}]]', 1),
        ('[[tool=delete]] [[args={"name": "old"}]]', 1),
        ('[[tool=pay]] [[args={"amount": 2}]]', 0),
    ],
)
def test_workflow_may_approve_and_reject_by_itself(alike: Alike, asked: str, rounds: int) -> None:
    told, _ = alike("OddApprovals", asked, variable="run_workflow", told_before=True)

    assert f"{rounds} rounds: " in told.content


def test_workflow_that_gives_up_on_a_run_stops_its_model(ask_agent: AskAgent, upstream: RecordingUpstream) -> None:
    cut = upstream.cut_count()

    told, _ = ask_agent("default/oddwaits", "Hi", timeout=5)

    assert told.content.endswith("It took too long.")
    eventually(upstream.cut_count, cut + 1)


@pytest.mark.parametrize("tool", ["in_a_thread", "in_a_pool", "to_thread", "old_loop"])
def test_runs_in_threads_and_loops_of_the_module_are_routed_too(ask_agent: AskAgent, tool: str) -> None:
    """Runner itself fails here: its one client belongs to the first loop that used it."""
    told, calls = ask_agent("default/oddthreads", f'[[tool={tool}]] [[args={{"question": "Why?"}}]]')

    assert [call.system for call in calls][1:-1] == ["You are the inner agent."] * (2 if tool == "in_a_pool" else 1)
    assert f"The tool {tool} returned: " in told.content
    assert "My instructions are: “You are the inner agent.”" in told.content


def test_module_may_do_at_import_what_scripts_do(alike: Alike) -> None:
    alike("OddImport", "[[tool=where]]")


def test_module_may_use_a_loop_a_signal_and_stdin_at_import(alike: Alike) -> None:
    _, calls = alike("OddLoop", "Hi")

    assert calls[0].system == "Greet as in 2018."


@pytest.mark.parametrize(
    ("variable", "asked"),
    [
        ("subclassed", "Hi"),
        ("unnamed", "Hi"),
        ("twice", "[[tool=look]]"),
        ("greeting", "[[tool=transfer_to_m_ller___s_hne__]]"),
        ("hooked", "[[tool=added_later]]"),
    ],
)
def test_agents_with_odd_names_tools_and_classes_work(alike: Alike, variable: str, asked: str) -> None:
    alike("OddAgents", asked, variable=variable)


@pytest.mark.parametrize(
    ("asked", "content"),
    [
        ("model", '{"verdict":"good","score":null}'),
        ("dataclass", '{"text": "hello", "tags": ["a"]}'),
        ("list", '[1, "two", null]'),
        ("number", "42"),
        ("zero", "0"),
        ("false", "false"),
        ("dict", '{"answer": "yes", "why": null}'),
        ("models", '[{"verdict": "a", "score": null}, {"verdict": "b", "score": null}]'),
        ("result", "from a result"),
        ("stream", "from a stream"),
        ("tuple", '["text", 1]'),
        ("parsed", '{"verdict":"good"}'),
        ("nothing", ""),
    ],
)
def test_workflow_may_return_anything(ask_agent: AskAgent, asked: str, content: str) -> None:
    told, _ = ask_agent("default/oddreturns", asked)

    assert (told.content, told.finish_reason) == (content, "stop")


def test_workflow_that_raises_after_it_spoke_ends_with_an_error(client: openai.OpenAI, ask: Ask) -> None:
    with pytest.raises(openai.APIError) as caught:
        ask(client, "default/oddreturns", "raise")

    assert caught.value.code == "agent_error"
    assert "hunter2" not in str(caught.value.body)
    assert isinstance(caught.value, openai.APIStatusError) is (ask is not ask_streamed)


def test_module_that_replaces_the_default_runner_changes_nothing_for_others(alike: Alike) -> None:
    alike("OddRunner", '[[tool=ask]] [[args={"question": "Why?"}]]')
    alike("WorkflowJudge", "A story, fail it first", variable="run_workflow", told_before=True)


@pytest.mark.parametrize(
    ("tool", "args", "returned"),
    [
        ("open", '{"name": "door"}', "box opens door"),
        ("close", '{"name": "door"}', "box closes door"),
        ("by_schema", '{"name": "door"}', "schema closes door"),
        ("decorated", '{"city": "Oslo", "places": ["a"], "more": {"x": 1}}', "Oslo ('a',) {'x': 1}"),
    ],
)
def test_tools_by_way_of_decorators_objects_and_schemas_work(alike: Alike, tool: str, args: str, returned: str) -> None:
    told, _ = alike("OddTools", f"[[tool={tool}]] [[args={args}]]")

    assert f"The tool {tool} returned: {returned}" in told.content


def test_workflow_may_give_inputs_of_every_form(alike: Alike) -> None:
    alike("OddInputs", "Hello there", variable="run_workflow", told_before=True)
