"""Tools that want a person's approval: the run waits on the server, and the next message decides."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.acceptance.recorder import RecordingUpstream
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, Told, ask_whole

LAUNCH = '[[tool=launch]] [[args={"city": "Oslo"}]]'
ASKED = 'I need your approval before I go on. I want to call:\n\n1. **launch** `{"city": "Oslo"}`\n\n'
REFERENCE = re.compile(r"\(reference (apr_[0-9a-f]{16})\)$")


def reference(told: Told) -> str:
    found = REFERENCE.search(told.content)
    assert found, told.content
    return found[1]


@pytest.fixture
def chat(client: openai.OpenAI, ask: Ask) -> Callable[..., Told]:
    """Says the next thing in a conversation: `chat(agent, history, "text")`, which grows the history."""

    def say(agent: str, history: list[dict[str, Any]], text: str, *, by: openai.OpenAI = client) -> Told:
        history.append({"role": "user", "content": text})
        told = ask(by, agent, history)
        history.append({"role": "assistant", "content": told.content})
        return told

    return say


Chat = Callable[..., Told]


def refusal(chat: Chat, agent: str, history: list[dict[str, Any]], text: str, **options: Any) -> tuple[int, Any]:
    with pytest.raises(openai.APIStatusError) as caught:
        chat(agent, history, text, **options)
    assert isinstance(caught.value.body, dict)
    return caught.value.status_code, caught.value.body["code"]


def test_run_stops_and_says_what_it_wants_to_do(chat: Chat, dropins: GatewayServer) -> None:
    told = chat("default/approval", [], LAUNCH)

    assert told.content == f"{ASKED}Answer **approve**, or **reject** and why. (reference {reference(told)})"
    assert told.finish_reason == "stop"
    assert dropins.wait_for_run(agent_id="default/approval", outcome="waiting")["finish_reason"] == "stop"


@pytest.mark.parametrize("words", ["approve", "Approved.", "yes", " OK! ", "**approve**", "yes, all"])
def test_approved_call_is_made_and_the_run_goes_on(chat: Chat, words: str) -> None:
    history: list[dict[str, Any]] = []
    chat("default/approval", history, LAUNCH)

    told = chat("default/approval", history, words)

    assert "The tool launch returned: Launched over Oslo." in told.content


def test_rejected_call_is_not_made_and_the_model_hears_why(chat: Chat, upstream: RecordingUpstream) -> None:
    history: list[dict[str, Any]] = []
    chat("default/approval", history, LAUNCH)
    upstream.taken()

    told = chat("default/approval", history, "reject: the weather is bad")

    assert "Launched" not in told.content
    (asked,) = upstream.taken()
    assert asked.body["messages"][-1]["content"] == "A person rejected this tool call: the weather is bad"


def test_answer_without_history_names_the_reference(chat: Chat) -> None:
    asked = chat("default/approval", [], LAUNCH)

    told = chat("default/approval", [], f"approve {reference(asked)}")

    assert "Launched over Oslo." in told.content


@pytest.mark.parametrize("words", ["yes, but only over Bergen", "What does it cost?", "Approve of this weather?", ""])
def test_other_words_are_an_ordinary_message(chat: Chat, words: str) -> None:
    history: list[dict[str, Any]] = []
    asked = chat("default/approval", history, LAUNCH)

    told = chat("default/approval", history, f"{words} [[say=As you like.]]")

    assert told.content == "As you like."
    assert "Launched over Oslo." in chat("default/approval", [], f"approve {reference(asked)}").content


def test_approval_counts_once(chat: Chat) -> None:
    history: list[dict[str, Any]] = []
    chat("default/approval", history, LAUNCH)
    chat("default/approval", list(history), "approve")

    assert refusal(chat, "default/approval", history, "approve") == (409, "approval_closed")


def test_of_many_approvals_at_once_one_counts(client: openai.OpenAI) -> None:
    asked = ask_whole(client, "default/approval", LAUNCH)

    def approve(_: int) -> str:
        try:
            return ask_whole(client, "default/approval", f"approve {reference(asked)}").content
        except openai.ConflictError as error:
            return str(error.code)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(approve, range(8)))

    assert sorted(answers)[1:] == ["approval_closed"] * 7
    assert "Launched over Oslo." in min(answers)


def test_approval_belongs_to_the_key_that_was_asked(chat: Chat, dropins: GatewayServer) -> None:
    history: list[dict[str, Any]] = []
    chat("default/approval", history, LAUNCH)
    key = dropins.operator.issue_key("Another")["credential"]
    other = dropins.openai(key)
    eventually(lambda: dropins.request("GET", "/v1/models", headers={"x-api-key": key}).status, 200)

    assert refusal(chat, "default/approval", list(history), "approve", by=other) == (409, "approval_closed")
    assert "Launched over Oslo." in chat("default/approval", history, "approve").content


def test_approval_belongs_to_the_agent_that_asked(chat: Chat) -> None:
    asked = chat("default/approval", [], LAUNCH)

    told = refusal(chat, "default/approvalseveral", [], f"approve {reference(asked)}")

    assert told == (409, "approval_closed")


def test_some_of_several_calls_are_approved(chat: Chat) -> None:
    history: list[dict[str, Any]] = []
    asked = chat("default/approvalseveral", history, "[[tool=open_door]] [[tool=open_window]]")
    assert "1. **open_door** `{}`\n2. **open_window** `{}`" in asked.content

    told = chat("default/approvalseveral", history, "approve 2")

    assert "The window is open." in told.content
    assert "The door is open." not in told.content


def test_number_that_is_not_there_decides_nothing(chat: Chat) -> None:
    history: list[dict[str, Any]] = []
    chat("default/approvalseveral", history, "[[tool=open_door]] [[tool=open_window]]")

    assert refusal(chat, "default/approvalseveral", list(history), "approve 3") == (409, "approval_closed")
    assert "The door is open." in chat("default/approvalseveral", history, "approve 1, 2").content


def test_approval_inside_agents_used_as_tools(chat: Chat) -> None:
    history: list[dict[str, Any]] = []
    asked = chat("default/approvalnested", history, '[[tool=ask_pilot]] [[args={"input": "launch over Oslo"}]]')
    assert "1. **launch** `" in asked.content

    told = chat("default/approvalnested", history, "approve")

    assert "Launched over" in told.content


def test_context_of_the_run_survives_and_no_call_is_made_twice(chat: Chat) -> None:
    history: list[dict[str, Any]] = []
    chat("default/approvalcontext", history, '[[tool=note]] [[args={"text": "calm sea"}]] [[tool=publish]]')

    assert chat("default/approvalcontext", history, "approve").content == "Published: calm sea."


@pytest.mark.parametrize(("euros", "asks"), [(50, False), (500, True)])
def test_tool_may_want_an_approval_for_some_arguments_only(chat: Chat, euros: int, asks: bool) -> None:
    told = chat("default/approvalconditional", [], f'[[tool=pay]] [[args={{"euros": {euros}}}]]')

    assert (f"Paid {euros} euros." in told.content, "I need your approval" in told.content) == (not asks, asks)


def test_approval_outlives_a_restart_but_not_an_edit(tmp_path: Path, folder: Path, template: Template) -> None:
    agents = tmp_path / "agents"
    source = (folder / "Approval" / "agent.py").read_text()
    (agents / "Rocket").mkdir(parents=True)
    (agents / "Rocket" / "agent.py").write_text(source)
    with GatewayServer(tmp_path / "data", agents=agents, template=template) as server:
        first, second = (ask_whole(server.openai(), "default/rocket", LAUNCH) for _ in range(2))
        server.stop()
        server.start()
        client = server.openai()
        told = ask_whole(client, "default/rocket", f"approve {reference(first)}")

        (agents / "Rocket" / "agent.py").write_text(source.replace("Launched over", "Started over"))
        before = client.models.retrieve("default/rocket").model_extra
        eventually(lambda: client.models.retrieve("default/rocket").model_extra != before, True)
        with pytest.raises(openai.ConflictError) as caught:
            ask_whole(client, "default/rocket", f"approve {reference(second)}")

    assert "Launched over Oslo." in told.content
    assert "The agent has been changed since it asked for this approval. Ask it again." in str(caught.value)


def test_approval_expires(tmp_path: Path, folder: Path, template: Template) -> None:
    agents = tmp_path / "agents"
    (agents / "Rocket").mkdir(parents=True)
    (agents / "Rocket" / "agent.py").write_text((folder / "Approval" / "agent.py").read_text())
    with GatewayServer(tmp_path / "data", agents=agents, template=template, GATEWAY_APPROVAL_TTL="0") as server:
        asked = ask_whole(server.openai(), "default/rocket", LAUNCH)
        with pytest.raises(openai.ConflictError) as caught:
            ask_whole(server.openai(), "default/rocket", f"approve {reference(asked)}")

    assert caught.value.code == "approval_closed"


def test_workflow_says_that_it_cannot_wait(chat: Chat) -> None:
    told = chat("default/approvalworkflow", [], LAUNCH)

    assert told.content == (
        "The tool 'launch' needs a person's approval, for which a workflow cannot wait. It was not called."
    )
