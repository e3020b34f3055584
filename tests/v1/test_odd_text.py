"""Text that is no text: half surrogate pairs (as in file names read from a disk) and NUL from an agent's code."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole

TOOL = '''
from agents import Agent, function_tool


@function_tool
def read_name() -> str:
    """Read a file's name."""
    return "caf\\udce9.txt"


agent = Agent(name="Names", instructions="Use your tools.", tools=[read_name], tool_use_behavior="{behaviour}")
'''
NAMED = """
from agents import Agent

agent = Agent(name="odd {odd} name", handoff_description="odd {odd} words", instructions="Be odd.")
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("odd")
    agents = folder / "agents"
    write_source(agents / "Stops", TOOL.format(behaviour="stop_on_first_tool"))
    write_source(agents / "Goes", TOOL.format(behaviour="run_llm_again"))
    write_source(agents / "Half", NAMED.format(odd="\\ud83d"))
    write_source(agents / "Nul", NAMED.format(odd="\\x00"))
    with GatewayServer(folder / "data", agents=agents, template=template) as server:
        yield server


def test_agent_with_an_odd_name_does_not_keep_the_others_from_being_listed(odd: GatewayServer) -> None:
    listed = {one.id: one.model_dump() for one in odd.openai().models.list()}

    assert sorted(listed) == ["default/goes", "default/half", "default/nul", "default/stops"]
    assert listed["default/stops"]["name"] == "Names"
    assert listed["default/half"]["name"].startswith("odd ")


@pytest.mark.parametrize("agent", ["default/half", "default/nul"])
def test_agent_with_an_odd_name_answers(odd: GatewayServer, ask: Ask, agent: str) -> None:
    assert ask(odd.openai(), agent, "[[say=Fine.]]").content == "Fine."


@pytest.mark.parametrize("agent", ["default/half", "default/nul"])
def test_agent_with_an_odd_name_is_recorded(odd: GatewayServer, agent: str) -> None:
    eventually(lambda: odd.operator.agent_state(agent), "live")


def test_odd_text_of_a_tool_is_the_answer_with_its_half_replaced(odd: GatewayServer, ask: Ask) -> None:
    told = ask(odd.openai(), "default/stops", "[[tool=read_name]]")

    assert (told.content[:3], told.content[-4:], told.finish_reason) == ("caf", ".txt", "stop")


def test_odd_text_of_a_tool_comes_to_the_model_with_its_half_replaced(odd: GatewayServer, ask: Ask) -> None:
    told = ask(odd.openai(), "default/goes", "[[tool=read_name]]")

    assert "The tool read_name returned: caf" in told.content


def test_stream_is_never_cut_without_a_word(odd: GatewayServer) -> None:
    body = (
        b'{"model": "default/stops", "messages": [{"role": "user", "content": "[[tool=read_name]]"}], "stream": true}'
    )

    answer = odd.with_key("POST", "/v1/chat/completions", body=body)

    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_run_row_of_odd_text_says_completed(odd: GatewayServer) -> None:
    messages: Any = "[[tool=read_name]]"
    ask_whole(odd.openai(), "default/stops", messages, extra_headers={"x-request-id": "odd-row"})

    assert odd.wait_for_run(request_id="odd-row")["outcome"] == "completed"


def test_next_request_is_served(odd: GatewayServer) -> None:
    client: openai.OpenAI = odd.openai()

    assert ask_whole(client, "default/goes", "[[say=Still here.]]").content == "Still here."
