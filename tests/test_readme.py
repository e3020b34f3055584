"""The README's commands, run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import GatewayServer, Template, eventually
from tests.harness.processes import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone to the commands: agents/, manage.py and .venv/bin/python."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "agents", folder / "agents")
    (folder / "manage.py").symlink_to(ROOT / "manage.py")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def server(clone: Path, template: Template) -> Iterator[GatewayServer]:
    with GatewayServer(clone / "var", agents=clone / "agents", template=template) as server:
        yield server


def block(language: str, mark: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == language and mark in text]
    return found


def run(text: str, clone: Path, server: GatewayServer) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=clone,
        env=environment(clone, server),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(clone: Path, server: GatewayServer) -> dict[str, str]:
    return {
        **os.environ,
        "GATEWAY_URL": server.url,
        "GATEWAY_API_KEY": server.key,
        "GATEWAY_DATA_DIR": str(server.folder),
        "GATEWAY_AGENT_DISCOVERY_PATH": str(clone / "agents"),
    }


def test_curl_lists_and_streams(clone: Path, server: GatewayServer) -> None:
    told = run(block("bash", "curl -s $GATEWAY_URL"), clone, server)
    assert '"id":"default/sampleagent"' in told
    assert told.rstrip().endswith("data: [DONE]")


def test_python_streams(clone: Path, server: GatewayServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("python", "OpenAI(")],
        env=environment(clone, server),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "What time is it in Tokyo?" in done.stdout


def test_dropped_in_agent_is_listed_and_judged(clone: Path, server: GatewayServer) -> None:
    run(block("bash", "agents/Weather/agent.py <<"), clone, server)
    eventually(lambda: "default/weather" in [model.id for model in server.openai().models.list()], True, within=4)
    assert "default/weather" in run(block("bash", "check_agent agents/Weather"), clone, server)


def test_every_setting_is_in_the_table() -> None:
    named = set(re.findall(r"`(GATEWAY_[A-Z_]+)`", README)) | {"GATEWAY_AGENT_DISCOVERY_DENYLIST"}
    defined = set(re.findall(r'"(GATEWAY_[A-Z_]+)"', (ROOT / "gateway_site" / "settings.py").read_text()))
    assert defined - {"GATEWAY_DEBUG"} <= named


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
