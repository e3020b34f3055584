"""Real folders, really imported: every test writes its drop-ins into a discovery folder of its own."""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from django.conf import LazySettings

from apps.catalog import loader, registry, scan
from apps.catalog.loader import Loaded
from apps.catalog.options import DEFAULT, LoadOptions
from apps.core import live_config
from apps.upstreams.models import Kind
from tests.factories import UpstreamFactory

AGENT = "from agents import Agent\nagent = Agent(name={name!r})\n"


@dataclass(frozen=True)
class DiscoveryFolder:
    path: Path

    def write(self, name: str, text: str, **files: str) -> Path:
        """`write("Weather", "...", tools="...")` makes Weather/agent.py and Weather/tools.py."""
        for file, content in {"agent": text, **files}.items():
            folder, init = (file[:-8], "__init__") if file.endswith("__init__") else (file, "")
            path = self.path / name / f"{folder.replace('__', '/')}{init}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        return self.path / name

    def write_agent(self, name: str, sdk_name: str) -> Path:
        return self.write(name, AGENT.format(name=sdk_name))


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> DiscoveryFolder:
    root = tmp_path / "agents"
    root.mkdir()
    settings.GATEWAY_AGENT_DISCOVERY_PATH = [root]
    settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 90
    return DiscoveryFolder(root)


@pytest.fixture
def load(folder: DiscoveryFolder) -> Iterator[Callable[..., Loaded]]:
    """Writes one drop-in and loads it; released at the end."""
    packages: list[Any] = []

    def load(text: str, name: str = "Weather", options: LoadOptions = DEFAULT, **files: str) -> Loaded:
        path = folder.write(name, text, **files)
        namespace, own = f"default/{name}".split("/")[-2:]
        loaded = loader.load(scan.agent_id(namespace, own), path, options)
        packages.append(loaded.package)
        return loaded

    yield load
    for package in filter(None, packages):
        package.release()


@pytest.fixture
def demo_upstream(transactional_db: None) -> None:
    """Answers for every agent, as on a first start without an LLM server."""
    UpstreamFactory(slug="demo", kind=Kind.DEMO, serves=["demo"])
    live_config.forget()  # an emptied database counts versions from the beginning
    live_config.refresh()


@pytest.fixture
def catalog(folder: DiscoveryFolder, demo_upstream: None) -> Iterator[DiscoveryFolder]:
    """The process's catalog over `folder`, empty again afterwards."""
    yield folder
    for path in sorted(folder.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    registry.refresh()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "did not come true in time"
        sleep(0.02)
