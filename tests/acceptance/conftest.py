"""One gateway over all fixtures of tests/fixtures/dropin_agents, its upstreams recorded; and the SDK's own Runner."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.acceptance.recorder import Asked, RecordingUpstream, comparable
from tests.acceptance.stock import Ran, run_module
from tests.harness import GatewayServer, Template
from tests.harness.asking import Ask, Told

# An upstream that takes whatever it is sent, so that nothing which an agent asks for is dropped on the way.
_TAKES = [
    "takes_reasoning_effort",
    "takes_verbosity",
    "takes_strict",
    "takes_parallel_tool_calls",
    "takes_developer_role",
    "takes_several_system_messages",
]
ANY = {"type": "object", "properties": {}}
FIXTURES = Path(__file__).parents[1] / "fixtures" / "dropin_agents"


@pytest.fixture(scope="session")
def upstream() -> Iterator[RecordingUpstream]:
    with RecordingUpstream() as server:
        yield server


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures, where they may write beside their code."""
    return Path(
        shutil.copytree(
            FIXTURES, tmp_path_factory.mktemp("dropins") / "agents", ignore=shutil.ignore_patterns("__pycache__")
        )
    )


@pytest.fixture(scope="session")
def dropins(
    tmp_path_factory: pytest.TempPathFactory, template: Template, upstream: RecordingUpstream, folder: Path
) -> Iterator[GatewayServer]:
    server = GatewayServer(tmp_path_factory.mktemp("acceptance") / "data", agents=folder, template=template)
    operator = server.operator
    everything = dict.fromkeys(_TAKES, True)
    for name, model in (("first", "demo"), ("second", "second-model")):
        url = upstream.base_url(name)
        chosen = {"models": [model], "default_model": model, "retries": 0}  # modules try again as they say themselves
        operator.put_upstream(name, kind="openai", base_url=url, **chosen, **everything)
    operator.put_upstream("first", models=["demo"], is_default=True)
    for name, function in (("order", "current_time"), ("days_between", "days_between")):
        path = f"apps.tools.examples.{function}"
        operator.make("tools.Tool", name=name, kind="local", function=path, parameters=ANY, description=f"The {name}.")
    with server:
        yield server


@pytest.fixture(scope="session")
def client(dropins: GatewayServer) -> openai.OpenAI:
    return dropins.openai()


Runs = Callable[..., tuple[Ran, list[Asked]]]


@pytest.fixture(scope="session")
def under_runner(folder: Path, upstream: RecordingUpstream) -> Iterator[Runs]:
    """What the SDK's own Runner makes of a fixture, and what its model is asked: `under_runner("Name", "question")`."""
    known: dict[str, tuple[Ran, list[Asked]]] = {}
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["tests.acceptance.stock_warmed"])
    # A process for each run: modules change the SDK's defaults and the environment.
    with ProcessPoolExecutor(1, mp_context=forkserver, max_tasks_per_child=1) as processes:

        def run(name: str, asked: Any, *, variable: str = "agent", context: str = "") -> tuple[Ran, list[Asked]]:
            key = repr((name, asked, variable, context))
            if key not in known:
                upstream.taken()
                call = partial(run_module, str(folder / name), variable, asked, context, upstream.base_url("stock"))
                known[key] = processes.submit(call).result(timeout=30), upstream.taken()
            return known[key]

        yield run


AskAgent = Callable[..., tuple[Told, list[Asked]]]


@pytest.fixture
def ask_agent(client: openai.OpenAI, ask: Ask, upstream: RecordingUpstream) -> AskAgent:
    """The gateway's answer and what the model was asked: `ask_agent("default/name", "question")`. The first requests to
    the model fail with the statuses `failures`."""

    def asking(model: str, asked: Any, *, failures: tuple[int, ...] = (), **options: Any) -> tuple[Told, list[Asked]]:
        upstream.taken()
        upstream.fail_next(*failures)
        return ask(client, model, asked, **options), upstream.taken()

    return asking


Alike = Callable[..., tuple[Told, list[Asked]]]


@pytest.fixture
def alike(ask_agent: AskAgent, under_runner: Runs) -> Alike:
    """Asks a fixture through the gateway and under Runner, and holds that the answer is the same and that the model was
    asked the same, word for word, tool for tool, turn for turn. Returns what the gateway told, and asked.

    `alone`: the variable is the module's only export, and so no part of the id. `ordered=False`: turns run in parallel.
    `told_before`: a workflow's agents have spoken, and were heard, before it returns what Runner's caller gets to see.
    """

    def asking(
        name: str,
        asked: Any,
        *,
        variable: str = "agent",
        context: str = "",
        alone: bool = False,
        ordered: bool = True,
        told_before: bool = False,
    ) -> tuple[Told, list[Asked]]:
        expected, expected_calls = under_runner(name, asked, variable=variable, context=context)
        assert expected.error == "", expected.message
        told, calls = ask_agent(model_id(name, "agent" if alone else variable), asked)
        assert expected.content == (told.content[-len(expected.content) :] if told_before else told.content)
        assert calls
        order = list if ordered else sorted
        assert order(comparable(calls)) == order(comparable(expected_calls))
        return told, calls

    return asking


Fails = Callable[..., None]


@pytest.fixture
def fails(client: openai.OpenAI, ask: Ask, under_runner: Runs) -> Fails:
    """Holds that a run which raises `raised` under Runner is an error with this `code` here."""

    def asking(name: str, asked: Any, *, raised: str, code: str, variable: str = "agent", context: str = "") -> None:
        ran, _ = under_runner(name, asked, variable=variable, context=context)
        assert ran.error == raised
        with pytest.raises(openai.APIError) as caught:
            ask(client, model_id(name, variable), asked)
        assert caught.value.code == code

    return asking


def model_id(name: str, variable: str) -> str:
    """A module that publishes several agents names each by its variable."""
    suffix = "" if variable in ("agent", "run_workflow") else f".{variable}"
    return f"default/{name.lower()}{suffix}"
