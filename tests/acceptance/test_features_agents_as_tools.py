"""Agents used as the tools of other agents."""

import pytest

from apps.upstreams import demo
from tests.acceptance.conftest import Alike, AskAgent, Fails

INPUT = '[[args={"input": "Tell me about frogs."}]]'


def test_agents_as_tools_nest_two_deep(alike: Alike) -> None:
    _, calls = alike("AsToolNested", f"[[tool=write_article]] {INPUT}")

    assert [call.system for call in calls] == [
        "Let the writer write.",
        "Write, after asking the researcher.",
        "Look things up.",
        "Look things up.",
        "Write, after asking the researcher.",
        "Let the writer write.",
    ]


def test_usage_is_of_all_agents_however_deep(alike: Alike) -> None:
    told, calls = alike("AsToolNested", f"[[tool=write_article]] {INPUT}")

    counted = [demo.completion(call.body)["usage"] for call in calls]
    assert told.usage == tuple(sum(one[name] for one in counted) for name in ("prompt_tokens", "completion_tokens"))


@pytest.mark.parametrize(
    ("tool", "seen"),
    [
        ("billing", "deltas: True, messages: 1, sync: False"),
        ("billing_sync", "deltas: False, messages: 0, sync: True"),
    ],
)
def test_agent_as_tool_streams_to_its_watcher(alike: Alike, tool: str, seen: str) -> None:
    told, _ = alike("AsToolStreaming", f"[[tool={tool}]] [[tool=what_was_seen]] {INPUT}")

    assert f"The tool what_was_seen returned: {seen}" in told.content


@pytest.mark.parametrize(
    ("tool", "args", "asked"),
    [
        ("translate", '{"text": "Hi", "target": "French"}', '"target": "French"'),
        ("sum_up", '{"start": 1, "end": 9}', "Sum up what lies between 1 and 9."),
        ("converse", '{"text": "Hi", "target": "Spanish"}', "Translate to Spanish: Hi"),
    ],
)
def test_agent_as_tool_takes_typed_parameters(alike: Alike, tool: str, args: str, asked: str) -> None:
    _, calls = alike("AsToolStructured", f"[[tool={tool}]] [[args={args}]]")

    assert asked in calls[1].body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("tool", "returned"), [("judge", '{"score": 1, "items": 1}'), ("judge_plainly", "score=1 reason=")]
)
def test_agent_as_tool_tells_what_its_extractor_makes_of_the_run(alike: Alike, tool: str, returned: str) -> None:
    told, _ = alike("AsToolStructured", f"[[tool={tool}]] {INPUT}")

    assert f"The tool {tool} returned: {returned}" in told.content


def test_agent_as_tool_runs_with_its_own_hooks(alike: Alike) -> None:
    told, _ = alike("AsToolOptions", f"[[tool=watched]] [[tool=hook_log]] {INPUT}")

    assert "The tool hook_log returned: start Helper, end Helper" in told.content


@pytest.mark.parametrize(("tool", "temperature"), [("warm", 0.9), ("cold", 0.1)])
def test_agent_as_tool_runs_with_its_own_settings(alike: Alike, tool: str, temperature: float) -> None:
    _, calls = alike("AsToolOptions", f"[[tool={tool}]] {INPUT}")

    assert [call.body.get("temperature") for call in calls] == [None, temperature, None]
    assert {call.upstream for call in calls} == {"first"}


def test_agent_as_tool_keeps_its_own_session(alike: Alike, ask_agent: AskAgent) -> None:
    alike("AsToolOptions", "[[tool=hook_log]]")
    _, calls = ask_agent("default/astooloptions", f"[[tool=remembering]] {INPUT}")

    _, calls_again = ask_agent("default/astooloptions", f"[[tool=remembering]] {INPUT}")

    assert len(calls_again[1].body["messages"]) == len(calls[1].body["messages"]) + 2


def test_agent_as_tool_that_is_disabled_is_not_offered(alike: Alike) -> None:
    _, calls = alike("AsToolOptions", "[[tool=hook_log]]")

    assert "hidden" not in calls[0].tool_names


@pytest.mark.parametrize(
    ("tool", "returned"),
    [
        ("dizzy", "It went on too long (MaxTurnsExceeded)."),
        ("dizzy_by_default", "An error occurred while running the tool."),
    ],
)
def test_agent_as_tool_that_reaches_its_turns_is_told_to_the_model(alike: Alike, tool: str, returned: str) -> None:
    told, _ = alike("AsToolOptions", f"[[tool={tool}]] {INPUT}")

    assert f"The tool {tool} returned: {returned}" in told.content


def test_agent_as_tool_that_may_fail_the_run_fails_it(fails: Fails) -> None:
    fails("AsToolOptions", f"[[tool=dizzy_and_fatal]] {INPUT}", raised="MaxTurnsExceeded", code="max_turns")


def test_agents_as_tools_run_in_parallel_and_by_context(alike: Alike) -> None:
    asked = f"[[tool=respond_spanish]] [[tool=respond_french]] {INPUT} {INPUT}"

    told, calls = alike(
        "AsToolParallel", asked, variable="orchestrator", context="AppContext", alone=True, ordered=False
    )

    assert calls[0].tool_names == ["respond_spanish", "respond_french"]
    assert "You respond in Spanish." in told.content
    assert "You respond in French." in told.content
