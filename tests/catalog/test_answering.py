"""What is found, joined with tables of upstreams."""

from dataclasses import replace
from pathlib import Path
from time import process_time
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from apps.catalog import answering
from apps.catalog.declared import declared
from apps.catalog.declared_problems import Judge
from apps.catalog.generations import Found, Generation, Serving
from apps.catalog.graph import Node
from apps.catalog.models import DeclaredAgent, State
from apps.tools.models import Kind as ToolKind
from apps.tools.tool import LocalCall, Tool
from apps.upstreams.models import Kind, Upstream
from apps.upstreams.routing import ModelRef, Preference
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


CHOICES = [
    ([UNKNOWN], Preference(instead=ModelRef("", "llama")), []),
    ([UNKNOWN], Preference(instead=ModelRef("local", "")), []),
    ([UNKNOWN], Preference(instead=ModelRef("local", "of any name")), []),  # the operator knows what it has
    ([PLAIN], Preference(instead=ModelRef("", "gpt-x")), ["model_substituted"]),
    ([PLAIN], Preference(instead=ModelRef("gone", "llama")), ["model_substituted"]),
    ([UNKNOWN], Preference(default=ModelRef("cloud", "")), ["model_substituted"]),  # by the namespace's default
    ([replace(PLAIN, model="")], Preference(default=ModelRef("cloud", "")), []),
    ([HOSTED], Preference(instead=ModelRef("local", "llama")), ["needs_responses"]),
    ([HOSTED], Preference(instead=ModelRef("cloud", "gpt")), []),
    ([OWN], Preference(instead=ModelRef("", "gpt-x")), []),  # keeps its own model
]


@pytest.mark.parametrize(("nodes", "prefer", "codes"), CHOICES)
def test_agent_is_judged_with_what_operators_chose(nodes: list[Node], prefer: Preference, codes: list[str]) -> None:
    found = Found({"default/a": serving(*nodes), "default/b": serving(PLAIN, agent_id="default/b")})
    judged = answering.joined(found, table(LOCAL, CLOUD), preferences={"default/a": prefer}).agents
    assert [one.code for one in judged["default/a"].problems] == codes
    assert judged["default/b"].problems == ()


def test_choice_that_nothing_has_is_named_as_the_operators() -> None:
    found = Found({"default/a": serving(PLAIN)})
    chosen = {"default/a": Preference(instead=ModelRef("", "gpt-x"))}
    (problem,) = answering.joined(found, table(LOCAL), preferences=chosen).agents["default/a"].problems
    assert problem.reason == (
        "An operator chose the model gpt-x, which no enabled upstream has; llama of 'local' answers instead."
    )


# --- declared agents -------------------------------------------------------------------------------------------------

SEARCH = Tool("search", ToolKind.HTTP, "", {}, "gateway.http", LocalCall("x"))


def judged(
    upstreams: list[Any], *, folders: Any = (), namespaces: Any = MappingProxyType({}), **fields: Any
) -> list[str]:
    judge = Judge(table=table(*upstreams), tools={"search": SEARCH}, namespaces=namespaces, folders=folders)
    return [one.code for one in judge.problems_of(declared(DeclaredAgent(name="desk", **fields)))]


def test_declared_agent_is_judged_by_upstreams_tools_and_folders() -> None:
    box = Upstream(slug="local")
    assert judged([LOCAL]) == []
    assert judged([]) == ["no_upstream"]
    assert judged([LOCAL], folders={"default/desk"}) == ["id_taken"]
    assert judged([LOCAL], model="gpt-x") == ["model_substituted"]
    assert judged([LOCAL, target("unread")], model="gpt-x") == []  # which may have it
    assert judged([LOCAL], model="local/gpt-x") == ["model_unlisted"]
    assert judged([LOCAL], upstream=box, model="gpt-x") == ["model_unlisted"]
    assert judged([CLOUD], upstream=box) == ["model_substituted"]  # it is switched off
    assert judged([DEMO], model="gpt-x") == []
    assert judged([LOCAL], tools=["search", "s*", "*"]) == []
    assert judged([LOCAL], tools=["serach", "x_*"]) == ["tools_missing"]
    assert judged([LOCAL], namespaces={"default": ModelRef("cloud", "")}) == []


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
