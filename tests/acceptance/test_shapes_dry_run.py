"""Modules that build their agent in their program: with GATEWAY_AGENT_DRY_RUN the program tells which one it runs.

Their folder is too deep for the gateway that serves the other fixtures.
"""

import shutil
from collections.abc import Iterator

import openai
import pytest

from tests.acceptance.conftest import FIXTURES
from tests.harness import DemoServer, GatewayServer, Template
from tests.harness.asking import Ask


@pytest.fixture(scope="module")
def started(
    tmp_path_factory: pytest.TempPathFactory, template: Template, demo: DemoServer
) -> Iterator[tuple[GatewayServer, int]]:
    """The gateway, and how many answers the upstream began while it loaded its agents."""
    folder = tmp_path_factory.mktemp("dry-run")
    agents = shutil.copytree(FIXTURES / "shapes_dry_run" / "modules", folder / "agents")
    before = demo.stats()["started"]
    with GatewayServer(folder / "data", agents=agents, template=template, GATEWAY_AGENT_DRY_RUN="true") as server:
        yield server, demo.stats()["started"] - before


@pytest.fixture(scope="module")
def dry(started: tuple[GatewayServer, int]) -> GatewayServer:
    return started[0]


@pytest.fixture(scope="module")
def client(dry: GatewayServer) -> openai.OpenAI:
    return dry.openai()


@pytest.mark.parametrize(
    ("name", "instructions"),
    [
        ("BuildsInMain", "You tell the time."),
        ("Arguments", "You are discreet."),
        ("ChatLoop", "You chat."),
        ("DemoLoop", "You demonstrate."),
        ("FailsAfterBuilding", "You read."),
    ],
)
def test_agent_that_the_program_runs_answers(client: openai.OpenAI, ask: Ask, name: str, instructions: str) -> None:
    told = ask(client, f"default/{name.lower()}", "[[no-tools]] Good morning")

    assert f"My instructions are: “{instructions}”" in told.content


def test_each_run_gets_a_context_as_the_program_gives_one(client: openai.OpenAI, ask: Ask) -> None:
    for _ in range(2):
        told = ask(client, "default/givescontext", "Good morning")

        assert "My instructions are: “You welcome Ada for visit 1.”" in told.content


def test_program_that_runs_no_agent_is_told_so(dry: GatewayServer) -> None:
    found = dry.with_key("GET", "/admin/agents/errors?severity=error").json()["data"]
    (error,) = [one for one in found if one["agent"] == "default/noagent"]

    assert error["code"] == "dry_run_failed"


def test_dry_run_reaches_no_model(started: tuple[GatewayServer, int]) -> None:
    _, answers = started

    assert answers == 0
