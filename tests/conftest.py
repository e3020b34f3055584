"""The processes that the tests share: one demo upstream, one faulty upstream, one gateway over the fixture agents."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from django.db import connection
from django.test import override_settings

from tests.fakes.faulty_upstream import ENDLESS, FAULTS
from tests.harness import DemoServer, FaultyServer, GatewayServer, RedisServer, Template, eventually
from tests.harness.asking import Ask, ask_streamed, ask_whole
from tests.harness.gateway import upstream_of

# Where bytecode is not kept (images of Python for containers say so), each of the hundreds of processes that the tests
# start would compile the gateway anew, a third of what its start costs.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

FIXTURE_AGENTS = Path(__file__).parent / "fixtures" / "gateway_agents"


# Of few tests that each take long: 30 to 90 seconds a file. With several processes they come first, or the last of them
# would go on alone when all others have ended.
LONG = (
    "browser/test_every_page.py",
    "v1/test_mcp.py",
    "v1/test_rate_limits.py",
    "browser/test_console.py",
    "v1/test_fault_table.py",
    "audits/test_worker.py",
    "v1/test_workers.py",
    "v1/test_modules.py",
    "v1/test_gateway_tools.py",
    "v1/test_tool_access.py",
    "v1/test_access.py",
    "v1/test_run_steps.py",
    "admin_api/test_contract.py",
    "console/test_serve.py",
    "console/test_agent_versions.py",
    "console/test_access_pages.py",
    "tools/test_mcp_connection.py",
    "v1/test_model_defaults.py",
    "v1/test_telemetry.py",
    "v1/test_watch.py",
    "v1/test_reload_under_load.py",
    "admin_api/test_agent_errors.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """A million rounds of hashing for every user that a test makes cost more than the tests of the console."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,  # PostgreSQL only
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """SQLite in a file, as it is served from; each process of a parallel run has a folder of its own.

    In memory, where Django puts it, all threads share one cache, and a reader that meets a writer fails at once
    ("database table is locked") instead of reading on.
    """
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "tests.sqlite3")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    with DemoServer(tmp_path_factory.mktemp("demo")) as server:
        yield server


@pytest.fixture(scope="session")
def faulty() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, demo: DemoServer, faulty: FaultyServer) -> Template:
    return Template.make(tmp_path_factory.mktemp("template") / "data", demo, faulty)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Shared by gateways of several workers; it stays up."""
    if not RedisServer.is_installed():
        pytest.skip("no redis-server to test with: several workers count limits in Redis")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def two_workers(redis_server: RedisServer) -> Callable[[], dict[str, str]]:
    """The settings of a gateway of two processes. Each call's has a secret, and so names in Redis, of its own."""
    return lambda: {
        "GATEWAY_WORKERS": "2",
        "REDIS_URL": redis_server.url,
        "GATEWAY_SECRET_KEY": uuid.uuid4().hex * 2,
    }


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    """The shared gateway. Tests leave it as they found it."""
    folder = tmp_path_factory.mktemp("gateway")
    agents = folder / "agents"
    copy_fixture_agents(agents)
    for fault in [*FAULTS, "slow-headers"]:
        model = f"{upstream_of(fault)}/{fault}"
        write_agent(agents / "faulty" / fault, model=model, tools=fault.startswith(("tool-", "stop-with")))
    for fault in ENDLESS:
        write_agent(agents / "patient" / fault, model=f"faulty/{fault}")
    origins = "https://chat.example.com,http://localhost:3000"
    with GatewayServer(folder / "data", agents=agents, template=template, GATEWAY_CORS_ORIGINS=origins) as server:
        server.operator.set_agent("default/disabled", enabled=False)
        eventually(lambda: "default/disabled" in [one.id for one in server.openai().models.list()], False)
        yield server


@pytest.fixture(scope="session")
def client(gateway: GatewayServer) -> openai.OpenAI:
    return gateway.openai()


@pytest.fixture(params=[ask_whole, ask_streamed], ids=["whole", "streamed"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """The same question in both modes: `ask(client, model, "text")`."""
    asked: Ask = request.param
    return asked


@pytest.fixture
def start_gateway(tmp_path: Path, template: Template) -> Iterator[Callable[..., GatewayServer]]:
    """Starts further gateways, each over its own agents folder: `start_gateway(agents={"Name": "source"}, ...)`."""
    with ExitStack() as stack:

        def start(agents: dict[str, str], **settings: Any) -> GatewayServer:
            number = len(list(tmp_path.iterdir()))
            folder = tmp_path / f"gateway{number}"
            for name, source in agents.items():
                write_source(folder / "agents" / name, source)
            server = GatewayServer(folder / "data", agents=folder / "agents", template=template, **settings)
            return stack.enter_context(server)

        yield start


def copy_fixture_agents(target: Path) -> None:
    for source in FIXTURE_AGENTS.rglob("*.py"):
        write_source((target / source.relative_to(FIXTURE_AGENTS)).parent, source.read_text(), name=source.name)


def write_source(folder: Path, source: str, *, name: str = "agent.py") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source)


def write_agent(folder: Path, *, model: str, tools: bool = False) -> None:
    write_source(
        folder, PLAIN_AGENT.format(name=folder.name, model=model, tools="[get_weather, get_time]" if tools else "[]")
    )


PLAIN_AGENT = '''"""The model {model}."""

from agents import Agent, function_tool


@function_tool
def get_weather(city: str) -> str:
    return f"Rain in {{city}}."


@function_tool
def get_time(city: str) -> str:
    return f"Noon in {{city}}."


agent = Agent(name="{name}", instructions="Answer.", model="{model}", tools={tools})
'''
