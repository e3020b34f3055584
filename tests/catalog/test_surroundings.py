"""What a module does to the process while it is imported: its API key, its default client, its environment."""

import asyncio
import builtins
import gc
import importlib
import locale
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from agents import OpenAIChatCompletionsModel, OpenAIResponsesModel

from apps.catalog import registry, surroundings
from apps.catalog.loader import Loaded
from apps.catalog.models import AgentSettings, DropIn, State
from apps.catalog.options import LoadOptions
from apps.catalog.surroundings import PLACEHOLDER_KEY
from apps.core import live_config
from tests.catalog.conftest import DiscoveryFolder

Load = Callable[..., Loaded]

SEES_KEY = """
    import os
    from agents import Agent
    {load_dotenv}
    from openai import AsyncOpenAI
    seen = AsyncOpenAI().api_key
    agent = Agent(name="x")
    """
DOTENV = "import dotenv; dotenv.load_dotenv()"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("WEATHER_TOKEN", raising=False)
    monkeypatch.setattr(surroundings, "_key_of_a_drop_in", "")
    yield
    os.environ.pop("OPENAI_API_KEY", None)
    os.environ.pop("WEATHER_TOKEN", None)


def names(loaded: Loaded) -> dict[str, Any]:
    assert loaded.package is not None, loaded.problems
    return vars(loaded.package.modules[f"{loaded.package.name}.agent"])


def write_dotenv(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".env").write_text(text)


# --- the API key -----------------------------------------------------------------------------------------------------


def test_import_without_any_key_gets_a_placeholder_and_leaves_none(load: Load) -> None:
    assert names(load(SEES_KEY.format(load_dotenv="")))["seen"] == PLACEHOLDER_KEY
    assert "OPENAI_API_KEY" not in os.environ


@pytest.fixture(autouse=True)
def _run_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the gateway is. In a parallel test run `__main__` has no file, which python-dotenv takes for a shell."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)


@pytest.mark.parametrize("where", ["Weather", ""])
def test_key_of_the_folders_dotenv_is_used_and_stays(load: Load, folder: DiscoveryFolder, where: str) -> None:
    write_dotenv(folder.path / where, "OPENAI_API_KEY=sk-own\nWEATHER_TOKEN=t\n")

    assert names(load(SEES_KEY.format(load_dotenv=DOTENV)))["seen"] == "sk-own"
    assert (os.environ["OPENAI_API_KEY"], os.environ["WEATHER_TOKEN"]) == ("sk-own", "t")


def test_operators_key_wins_over_a_dotenv(load: Load, folder: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-operator")
    write_dotenv(folder.path / "Weather", "OPENAI_API_KEY=sk-own\n")

    assert names(load(SEES_KEY.format(load_dotenv=DOTENV)))["seen"] == "sk-operator"
    assert os.environ["OPENAI_API_KEY"] == "sk-operator"


def test_key_of_one_drop_in_is_not_given_to_the_next(load: Load, folder: DiscoveryFolder) -> None:
    write_dotenv(folder.path / "One", "OPENAI_API_KEY=sk-one\n")
    write_dotenv(folder.path / "Two", "OPENAI_API_KEY=sk-two\n")
    text = SEES_KEY.format(load_dotenv=DOTENV)

    assert names(load(text, "One"))["seen"] == "sk-one"
    assert names(load(SEES_KEY.format(load_dotenv=""), "None"))["seen"] == PLACEHOLDER_KEY
    assert names(load(text, "Two"))["seen"] == "sk-two"
    write_dotenv(folder.path / "One", "OPENAI_API_KEY=sk-one-edited\n")
    assert names(load(text, "One"))["seen"] == "sk-one-edited"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"OPENAI_API_KEY", b"= =", b""])
def test_dotenv_that_gives_no_key_changes_nothing(load: Load, folder: DiscoveryFolder, content: bytes) -> None:
    write_dotenv(folder.path / "Weather", "")
    (folder.path / "Weather" / ".env").write_bytes(content)

    assert names(load(SEES_KEY.format(load_dotenv="")))["seen"] == PLACEHOLDER_KEY
    assert "OPENAI_API_KEY" not in os.environ


# --- default clients -------------------------------------------------------------------------------------------------

OWN_CLIENT = """
    import os
    from agents import Agent, set_default_openai_client, set_default_openai_api, set_default_openai_key
    from openai import AsyncOpenAI
    {setting}
    agent = Agent(name="x", model="own-model")
    """
CLIENT = 'set_default_openai_client(AsyncOpenAI(base_url="http://llm.example/v1", api_key="k"))'
ALLOWED = LoadOptions(own_client=True)


def shared() -> tuple[Any, ...]:
    module = importlib.import_module("agents.models._openai_shared")
    return module.get_default_openai_client(), module.get_default_openai_key(), module.get_use_responses_by_default()


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        (CLIENT, "http://llm.example/v1/"),
        (f"def use():\n        {CLIENT}\n    use()", "http://llm.example/v1/"),
        ('set_default_openai_key("sk-own")', "OpenAI, with a key of its own"),
    ],
)
def test_default_client_of_a_module_is_taken_back_and_told(load: Load, setting: str, where: str) -> None:
    loaded = load(OWN_CLIENT.format(setting=setting))

    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == ("own_default_client", "warning")
    assert f"({where})" in problem.reason
    assert "“use the module's own client”" in problem.remedy
    assert loaded.model_provider is None
    assert shared() == (None, None, True)


@pytest.mark.parametrize(
    "setting",
    ['set_default_openai_api("chat_completions")', 'set_default_openai_key(os.environ["OPENAI_API_KEY"])', ""],
)
def test_module_that_names_no_other_server_is_told_nothing(load: Load, setting: str) -> None:
    loaded = load(OWN_CLIENT.format(setting=setting), options=ALLOWED)

    assert (loaded.problems, loaded.model_provider) == ((), None)
    assert shared() == (None, None, True)


@pytest.mark.parametrize(
    ("api", "kind"),
    [("", OpenAIResponsesModel), ('; set_default_openai_api("chat_completions")', OpenAIChatCompletionsModel)],
)
def test_own_client_is_the_agents_model_provider_when_it_may(load: Load, api: str, kind: type) -> None:
    loaded = load(OWN_CLIENT.format(setting=CLIENT + api), options=ALLOWED)

    assert loaded.problems == ()
    assert loaded.model_provider is not None
    model = loaded.model_provider.get_model("own-model")
    assert type(model) is kind
    assert str(model._client.base_url) == "http://llm.example/v1/"  # type: ignore[attr-defined]
    assert shared() == (None, None, True)


def test_own_client_answers_for_what_no_upstream_could(catalog: DiscoveryFolder) -> None:
    hosted = OWN_CLIENT.replace('model="own-model"', "tools=[WebSearchTool()]").replace(
        "Agent,", "Agent, WebSearchTool,"
    )
    catalog.write("Weather", hosted.format(setting=CLIENT))

    def codes() -> list[str]:
        registry.refresh()
        return [one.code for one in registry.entries()["default/weather"].problems]

    assert codes() == ["own_default_client", "needs_responses"]
    AgentSettings.objects.create(drop_in=DropIn.objects.get(), own_client=True)
    live_config.forget()
    assert codes() == []
    assert registry.entries()["default/weather"].state == State.LIVE


def test_own_client_of_a_dry_run_counts_too(load: Load) -> None:
    text = f"""
        from agents import Agent, Runner, set_default_openai_client
        from openai import AsyncOpenAI
        def main():
            {CLIENT}
            Runner.run_sync(Agent(name="x"), "hi")
        """
    loaded = load(text, options=LoadOptions(dry_run=True, own_client=True))

    assert loaded.model_provider is not None
    assert shared() == (None, None, True)


# --- what all modules share ------------------------------------------------------------------------------------------


def shared_state() -> dict[str, Any]:
    root, library = logging.getLogger(), logging.getLogger("openai.agents")
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__),
        "names": (builtins.print, builtins.open, asyncio.run, asyncio.sleep, asyncio.tasks.Task, signal.signal),
        "loops": (asyncio.SelectorEventLoop.run_until_complete, hasattr(asyncio, "_nest_patched")),
        "policy": asyncio.get_event_loop_policy(),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), socket.getdefaulttimeout(), gc.isenabled()),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "handlers": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "locale": locale.setlocale(locale.LC_ALL),
        "umask": mask,
        "warnings": (list(warnings.filters), warnings.showwarning),
        "logging": (root.level, list(root.handlers), library.level, library.disabled, root.manager.disable),
        "structlog": structlog.get_config(),
    }


@pytest.mark.parametrize(
    "text",
    [
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')",
        "sys.stdout = io.TextIOWrapper(sys.stdout.detach()); print('hello')",
        "sys.__stdout__.close(); sys.stderr.close(); sys.stdin.close()",
        "sys.stdin.reconfigure(encoding='utf-8'); assert sys.stdin.read() == '' and not sys.stdin.isatty()",
        "builtins.print = builtins.open = asyncio.run = asyncio.sleep = None",
        "asyncio.Task = asyncio.tasks.Task = asyncio.tasks._PyTask; asyncio._nest_patched = True",
        "type(asyncio.get_event_loop()).run_until_complete = lambda self, future: 1",
        "asyncio.set_event_loop_policy(type('Policy', (asyncio.DefaultEventLoopPolicy,), {})())",
        "sys.setrecursionlimit(300); sys.setswitchinterval(1); socket.setdefaulttimeout(1); gc.disable()",
        "sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *_: None",
        "assert signal.signal(signal.SIGINT, lambda *_: 1) is signal.getsignal(signal.SIGINT)",
        "locale.setlocale(locale.LC_ALL, 'C.UTF-8'); os.umask(0o007)",
        "warnings.filterwarnings('error'); logging.captureWarnings(True)",
        "logging.basicConfig(level=1, force=True); logging.disable(); structlog.configure(processors=[])",
        "agents.enable_verbose_stdout_logging(); logging.getLogger('openai.agents').disabled = True",
    ],
)
def test_what_a_module_sets_for_all_is_put_back(load: Load, text: str) -> None:
    before = shared_state()
    modules = (
        "agents, asyncio, builtins, gc, io, locale, logging, os, signal, socket, structlog, sys, threading, warnings"
    )

    loaded = load(f"import {modules}\nagent = agents.Agent(name='x')\n{text}")

    assert loaded.problems == ()
    assert shared_state() == before


def test_prints_of_an_import_are_the_gateways(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    load("import sys\nfrom agents import Agent\nagent = Agent(name='x')\nprint('Grüße')\nsys.stderr.write('Oh')")
    assert capfd.readouterr() == ("Grüße\n", "Oh")


def test_stream_that_a_module_keeps_goes_on(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load("import sys\nfrom agents import Agent\nagent = Agent(name='x')\nout = sys.stdout")

    names(loaded)["out"].write("later")
    assert capsys.readouterr().out == "later"


def test_loop_of_an_import_is_there_before_and_after_others(load: Load) -> None:
    text = """
        import asyncio
        from agents import Agent
        async def name(): return "x"
        loop = asyncio.get_event_loop()
        agent = Agent(name=loop.run_until_complete(name()) + asyncio.run(name()))
        """
    loaded = load(text)

    assert [one.nodes[0].name for one in loaded.published] == ["xx"]
    assert names(loaded)["loop"].is_closed()
