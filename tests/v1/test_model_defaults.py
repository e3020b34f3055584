"""Which model answers: the one that is named, a substitute, the module's own, or none; and what operators are told."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest

from tests.fakes import faulty_upstream
from tests.harness import DemoServer, FaultyServer, GatewayServer, Template, eventually
from tests.harness.asking import Ask, Told, ask_whole

FIXTURES = Path(__file__).parents[1] / "fixtures" / "dropin_agents"
NAMES = [
    "ModelNone", "ModelUnknown", "ModelOwn", "ModelOwnClient", "ModelsApart", "SandboxShell", "SandboxHandoff",
]  # fmt: skip
UNKNOWN = "from agents import Agent\nagent = Agent(name='Unknown', model='gpt-nobody-has')\n"


def copy_fixtures(target: Path) -> None:
    for name in NAMES:
        shutil.copytree(FIXTURES / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sandboxes' folders are made."""
    return tmp_path_factory.mktemp("workspaces")


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, template: Template, faulty: FaultyServer, workspaces: Path
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("models")
    copy_fixtures(folder / "agents")
    settings = {"OWN_BASE_URL": faulty.base_url, "TMPDIR": str(workspaces), "A_SECRET": "of the gateway"}
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def client(gateway: GatewayServer) -> openai.OpenAI:
    return gateway.openai()


def asked(server: GatewayServer, ask: Ask, model: str, text: Any = "Hi") -> tuple[Told, dict[str, Any]]:
    """What the client was told, and the Run."""
    id = f"req_{uuid4().hex}"
    told = ask(server.openai(), model, text, extra_headers={"x-request-id": id})
    return told, server.wait_for_run(request_id=id)


def answered_by(run: dict[str, Any]) -> tuple[str, str, int]:
    return run["upstream"], run["model"], run["model_calls"]


# --- which model answers ---------------------------------------------------------------------------------------------


def test_agent_without_a_model_gets_the_default(gateway: GatewayServer, ask: Ask) -> None:
    _, run = asked(gateway, ask, "default/modelnone")
    assert answered_by(run) == ("llm", "demo", 1)
    assert gateway.operator.diagnostics("default/modelnone") == []


def test_unknown_model_is_substituted_and_said_so(gateway: GatewayServer, ask: Ask) -> None:
    _, run = asked(gateway, ask, "default/modelunknown")
    assert answered_by(run) == ("llm", "demo", 1)
    assert gateway.operator.diagnostics("default/modelunknown") == ["model_substituted"]


def test_commands_tell_the_same_of_a_substituted_model(gateway: GatewayServer) -> None:
    for command in ("discover_agents", "list_agents"):
        rows = {row["id"]: row for row in json.loads(gateway.manage(command, "--json").stdout)}
        (problem,) = rows["default/modelunknown"]["problems"]
        assert problem == {
            "code": "model_substituted",
            "severity": "warning",
            "reason": "The agents Unknown, Friend ask for the model gpt-nobody-has, which no enabled upstream lists; "
            "demo of 'llm' answers instead.",
            "remedy": "Add an upstream that has it in the admin under Upstreams, or name a model that one lists. "
            "GATEWAY_DEFAULT_MODEL chooses what answers instead.",
            "file": str(gateway.agents / "ModelUnknown" / "agent.py"),
            "line": None,
        }


def test_agents_of_a_graph_run_on_the_upstreams_of_their_models(gateway: GatewayServer, ask: Ask) -> None:
    told, run = asked(gateway, ask, "default/modelsapart", "Hi [[tool=transfer_to_near]]")
    assert told.content == faulty_upstream.TEXT
    assert answered_by(run) == ("faulty", "ok", 2)


def test_own_model_answers_uncounted(gateway: GatewayServer, ask: Ask) -> None:
    told, run = asked(gateway, ask, "default/modelown")
    assert told == Told("I answer by myself.", "stop", (0, 0))
    assert (*answered_by(run), run["outcome"]) == ("", "", 0, "completed")
    assert gateway.operator.diagnostics("default/modelown") == ["own_model"]


def test_own_client_goes_where_it_wants(gateway: GatewayServer, ask: Ask, faulty: FaultyServer) -> None:
    told, run = asked(gateway, ask, "default/modelownclient")
    assert (told.content, told.finish_reason) == (faulty_upstream.TEXT, "stop")
    assert faulty.last()["headers"]["authorization"] == "Bearer own"
    assert (*answered_by(run), run["outcome"]) == ("", "", 0, "completed")


def test_own_client_that_reaches_nobody_is_told_apart(start_gateway: Callable[..., GatewayServer], ask: Ask) -> None:
    source = (FIXTURES / "ModelOwnClient" / "agent.py").read_text()
    client = start_gateway(agents={"Own": source}).openai()
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "default/own", "Hi")
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")
    assert caught.value.body["message"] == "The agent's own LLM server cannot be reached."  # type: ignore[index]


# --- as the upstreams come and go ------------------------------------------------------------------------------------


def test_warning_goes_when_an_upstream_has_the_model(
    start_gateway: Callable[..., GatewayServer], demo: DemoServer
) -> None:
    server = start_gateway(agents={"Unknown": UNKNOWN})

    def told() -> list[str]:
        return list(server.operator.diagnostics("default/unknown"))

    eventually(told, ["model_substituted"])
    server.operator.put_upstream("other", base_url=demo.base_url, models=["gpt-nobody-has"])
    eventually(told, [])
    server.operator.put_upstream("other", enabled=False, models=["gpt-nobody-has"])
    eventually(told, ["model_substituted"])
    server.operator.put_upstream("unread", base_url=demo.base_url, models=[])  # may have it: its list was never read
    eventually(told, [])


def test_demo_alone_answers_for_every_model_without_a_warning(start_gateway: Callable[..., GatewayServer]) -> None:
    server = start_gateway(agents={"Unknown": UNKNOWN})
    eventually(lambda: server.operator.diagnostics("default/unknown"), ["model_substituted"])
    server.operator.put_upstream(
        "demo", kind="demo", base_url="", default_model="demo", models=["demo"], is_default=True
    )
    server.operator.only_upstreams(["demo"])

    eventually(lambda: server.operator.diagnostics("default/unknown"), [])
    assert ask_whole(server.openai(), "default/unknown", "[[say=Here.]]").content == "Here."


def test_without_an_upstream_the_agent_stays_and_says_what_to_do(
    start_gateway: Callable[..., GatewayServer], demo: DemoServer, ask: Ask
) -> None:
    server = start_gateway(agents={"Plain": "from agents import Agent\nagent = Agent(name='P')\n"})
    client = server.openai()
    server.operator.only_upstreams([])
    eventually(lambda: server.operator.diagnostics("default/plain"), ["no_upstream"])

    assert [one.id for one in client.models.list()] == ["default/plain"]
    assert server.operator.agent_state("default/plain") == "live"
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "default/plain", "Hi")
    assert (caught.value.status_code, caught.value.code) == (503, "no_upstream")
    assert caught.value.body["message"] == (  # type: ignore[index]
        "No upstream is enabled. Add an LLM server in the admin under Upstreams, or enable the demo."
    )

    server.operator.put_upstream("llm", base_url=demo.base_url, default_model="demo", models=["demo"])
    eventually(lambda: server.operator.diagnostics("default/plain"), [])
    assert ask(client, "default/plain", "[[say=Here.]]").content == "Here."


# --- SandboxAgent ----------------------------------------------------------------------------------------------------


def command(text: str) -> str:
    return f"Do it. [[tool=exec_command]][[args={json.dumps({'cmd': text})}]]"


def test_sandbox_agent_works_in_a_folder_of_its_own(gateway: GatewayServer, ask: Ask, workspaces: Path) -> None:
    told, run = asked(gateway, ask, "default/sandboxshell", command("cat note.txt; pwd"))
    assert "A note in the workspace." in told.content
    assert str(workspaces / "sandbox-local-") in told.content
    assert run["model_calls"] == 2

    eventually(lambda: list(workspaces.glob("sandbox-local-*")), [])


def test_commands_do_not_see_the_gateways_environment(client: openai.OpenAI) -> None:
    told = ask_whole(
        client, "default/sandboxshell", command("env | cut -d= -f1 | grep -E 'SECRET|GATEWAY|KEY'; echo end")
    )
    assert "end" in told.content
    assert not [name for name in ("A_SECRET", "GATEWAY_DATA_DIR", "GATEWAY_BOOTSTRAP_API_KEY") if name in told.content]


def test_sandbox_agent_serves_several_clients_at_once(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(
                lambda number: ask_whole(
                    client, "default/sandboxshell", command(f"sleep 0.3; echo {number}00{number}")
                ),
                range(1, 5),
            )
        )
    assert [f"{number}00{number}" in told.content for number, told in enumerate(answers, 1)] == [True] * 4


def test_sandbox_agent_behind_a_handoff_works(client: openai.OpenAI, ask: Ask) -> None:
    asked = "[[tool=transfer_to_worker]][[args={}]]" + command("echo by-the-worker")
    told = ask(client, "default/sandboxhandoff", asked)
    assert "by-the-worker" in told.content


def test_folder_of_a_run_that_is_stopped_is_removed(client: openai.OpenAI, workspaces: Path) -> None:
    stream = client.chat.completions.create(
        model="default/sandboxshell", messages=[{"role": "user", "content": command("sleep 30")}], stream=True
    )
    next(iter(stream))
    stream.close()
    eventually(lambda: list(workspaces.glob("sandbox-local-*")), [], within=15)


def test_operators_are_told_of_agents_that_run_commands(gateway: GatewayServer) -> None:
    for name in ("sandboxshell", "sandboxhandoff"):
        assert gateway.operator.diagnostics(f"default/{name}") == ["runs_commands"]
