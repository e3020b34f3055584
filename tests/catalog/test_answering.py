"""What is found, joined with tables of upstreams."""

from dataclasses import replace
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from apps.catalog import answering
from apps.catalog.generations import Found, Generation, Serving
from apps.catalog.graph import Node
from apps.catalog.models import State
from apps.upstreams.models import Kind
from tests.upstreams.test_routing import CLOUD, LOCAL, table, target

PLAIN = Node("Plain", "llama", "", (), (), (), own_model="", needs=(), runs_commands=False)
UNKNOWN = replace(PLAIN, name="Unknown", model="gpt-x")
HOSTED = replace(PLAIN, name="Hosted", model="", needs=("WebSearchTool",))
OWN = replace(HOSTED, name="Own", own_model="OpenAIResponsesModel")
DEMO = target("demo", "demo", kind=Kind.DEMO, default_model="demo")


def serving(*nodes: Node, agent_id: str = "default/a") -> Serving:
    generation = cast("Generation", SimpleNamespace(nodes=nodes, model_provider=None))
    return Serving(agent_id, Path("/agents/A"), 0, State.LIVE, generation)


@pytest.mark.parametrize(
    ("nodes", "upstreams", "state", "codes"),
    [
        ([PLAIN], [LOCAL], State.LIVE, []),
        ([UNKNOWN], [LOCAL], State.LIVE, ["model_substituted"]),
        ([UNKNOWN], [DEMO], State.LIVE, []),
        ([UNKNOWN], [DEMO, LOCAL], State.LIVE, []),  # the demo answers, by design
        ([UNKNOWN], [LOCAL, target("unread")], State.LIVE, []),  # which may have it
        ([PLAIN, UNKNOWN], [LOCAL], State.LIVE, ["model_substituted"]),
        ([HOSTED], [LOCAL], State.BROKEN, ["needs_responses"]),
        ([PLAIN, HOSTED], [LOCAL], State.BROKEN, ["needs_responses"]),
        ([HOSTED], [LOCAL, CLOUD], State.LIVE, []),
        ([OWN], [LOCAL], State.LIVE, []),
        ([OWN], [], State.LIVE, []),
        ([PLAIN], [], State.LIVE, ["no_upstream"]),
        ([HOSTED], [], State.LIVE, ["no_upstream"]),
        ([replace(PLAIN, model="")], [target("empty")], State.LIVE, ["no_upstream"]),
    ],
)
def test_agent_is_judged_by_the_upstreams(
    nodes: list[Node], upstreams: list[Any], state: State, codes: list[str]
) -> None:
    found = Found({"default/a": serving(*nodes)})
    judged = answering.joined(found, table(*upstreams)).agents["default/a"]
    assert (judged.state, [one.code for one in judged.problems]) == (state, codes)
    assert {one.file for one in judged.problems} <= {"/agents/A/agent.py"}


def test_broken_agents_and_others_stay_as_they_are() -> None:
    broken = replace(serving(), generation=None, state=State.BROKEN)
    found = Found({"default/a": broken}, others=(("*", answering.problem("no_agent_file", "r", "m")),))
    assert answering.joined(found, table()) == found


def test_thousand_agents_are_joined_in_a_few_milliseconds() -> None:
    """After a change of an upstream, on the event loop: it must be short. The best of five counts."""
    agents = {f"default/a{number}": serving(PLAIN, UNKNOWN, HOSTED) for number in range(1000)}
    assert min(seconds_to_join(Found(agents)) for _ in range(5)) < 0.05


def seconds_to_join(found: Found) -> float:
    began = process_time()
    answering.joined(found, table(LOCAL, CLOUD))
    return process_time() - began
