"""manage.py install_agent_deps, with real pip on wheels of our own; nothing is installed into this environment."""

import zipfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from tests.catalog.conftest import DiscoveryFolder
from tests.harness import GatewayServer, eventually

Install = Callable[..., str]


def write_wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """A package of one module that knows its version."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {one}" for one in needs)]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    write_wheel(folder, "barometer", "1.0")
    write_wheel(folder, "barometer", "2.0")
    write_wheel(folder, "hygrometer", "1.0", "barometer<2")
    write_wheel(folder, "outdated", "1.0", "pydantic<2")
    write_wheel(folder, "pydantic", "1.10")
    write_wheel(folder, "modest", "2.0", "pydantic<2")
    write_wheel(folder, "modest", "1.0")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where pip installs to."""
    folder = tmp_path / "installed"
    folder.mkdir()
    return folder


@pytest.fixture
def install(folder: DiscoveryFolder, wheels: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Runs the command and returns what it writes."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_TARGET", str(target))
    monkeypatch.chdir(folder.path)

    def install(*arguments: str, **options: Any) -> str:
        output = StringIO()
        call_command("install_agent_deps", *filter(None, arguments), stdout=output, **options)
        return output.getvalue()

    return install


def failure(install: Install, *arguments: str) -> str:
    with pytest.raises(CommandError) as raised:
        install(*arguments)
    return str(raised.value)


@pytest.fixture
def planning(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a target folder, pip disregards what is installed; so plans against this very environment go without."""
    monkeypatch.delenv("PIP_TARGET")
    monkeypatch.setenv("PIP_DRY_RUN", "1")


def write_requirements(folder: DiscoveryFolder, name: str, text: str) -> Path:
    path = folder.write_agent(name, name) / "requirements.txt"
    path.write_text(text)
    return path


def installed(target: Path) -> list[str]:
    return sorted(path.stem for path in target.glob("*.py"))


@pytest.mark.parametrize("name", ["Weather", "weather", "default/weather", "./Weather", ""])
def test_agent_is_named_by_id_folder_or_path(
    install: Install, folder: DiscoveryFolder, target: Path, name: str
) -> None:
    file = write_requirements(folder, "Weather", "# air\nbarometer>=1  # hPa\n\nhygrometer ; python_version>'3'")
    folder.write_agent("Plain", "Plain")
    before = file.stat().st_mtime_ns

    assert install(name) == (
        f"Installing:\n  barometer 1.0\n  hygrometer 1.0\nfor:\n  {file}\n"
        "Done. Running gateways now try the agents again that did not load.\n"
    )
    assert installed(target) == ["barometer", "hygrometer"]
    assert file.stat().st_mtime_ns > before


def test_dry_run_says_what_it_would_do_and_does_nothing(
    install: Install, folder: DiscoveryFolder, target: Path
) -> None:
    file = write_requirements(folder, "Weather", "barometer")
    before = file.stat().st_mtime_ns

    assert install("Weather", dry_run=True) == f"Would install:\n  barometer 2.0\nfor:\n  {file}\n"
    assert (installed(target), file.stat().st_mtime_ns) == ([], before)


@pytest.mark.usefixtures("planning")
def test_version_with_which_the_gateway_could_not_run_is_passed_over(install: Install, folder: DiscoveryFolder) -> None:
    write_requirements(folder, "Weather", "modest\npydantic>=2")
    assert install("Weather").splitlines()[:3] == ["Installing:", "  modest 1.0", "for:"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openai-agents==0.3.0", "requirements.txt:1 wants openai-agents==0.3.0, but the gateway itself runs on "),
        ("barometer\nDjango<5 ; python_version > '3'", "requirements.txt:2 wants Django<5; python_version"),
        ("outdated", "This would change the gateway's own packages (pydantic 1.10 instead of "),
        ("barometer==\n", "requirements.txt:1 is no requirement: 'barometer==' ("),
        ("what is this", "requirements.txt:1 is no requirement: 'what is this' ("),
        ("no-such-thermometer", "The package index has no no-such-thermometer for this Python."),
        ("barometer==3", "The package index has no barometer==3 for this Python."),
        ("barometer==2\nhygrometer", "pip failed: Cannot install"),
        ("-r other.txt", "pip failed: Could not open requirements file"),
    ],
)
@pytest.mark.usefixtures("planning")
def test_what_cannot_be_installed_is_said_in_a_sentence(
    install: Install, folder: DiscoveryFolder, text: str, said: str
) -> None:
    write_requirements(folder, "Weather", text)
    message = failure(install, "Weather")

    assert said in message
    assert message.endswith(" Nothing was installed.")


def test_index_that_cannot_be_reached_is_named(
    install: Install, folder: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    write_requirements(folder, "Weather", "barometer")

    assert failure(install, "Weather").startswith("The package index cannot be reached.")


def test_file_in_another_encoding_is_named(install: Install, folder: DiscoveryFolder) -> None:
    write_requirements(folder, "Weather", "").write_bytes("barometer".encode("utf-16"))
    assert "requirements.txt cannot be read" in failure(install)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("Plain", "“Plain” has no requirements.txt. Write one beside its agent.py, one package a line."),
        ("Nobody", "“Nobody” should name one agent, by its id, folder or path; it names none."),
        ("Twin", "“Twin” should name one agent, by its id, folder or path; it names a/twin, b/twin."),
    ],
)
def test_agent_that_is_not_there_or_asks_for_nothing_is_said(
    install: Install, folder: DiscoveryFolder, argument: str, said: str
) -> None:
    for name in ("Plain", "a/Twin", "b/Twin"):
        folder.write_agent(name, name)
    assert failure(install, argument) == said


def test_nothing_to_install_for_any_agent_is_said(install: Install, folder: DiscoveryFolder) -> None:
    folder.write_agent("Plain", "Plain")
    assert install() == "No agent has a requirements.txt; there is nothing to install.\n"


def test_running_gateway_serves_the_agent_after_the_installation(
    install: Install, start_gateway: Callable[..., GatewayServer], target: Path, settings: LazySettings
) -> None:
    source = "import barometer\nfrom agents import Agent\nagent = Agent(name=f'W {barometer.version}')\n"
    gateway = start_gateway(agents={"Weather": source}, PYTHONPATH=str(target))
    (gateway.agents / "Weather" / "requirements.txt").write_text("barometer==1.0")

    def served() -> list[str]:
        return [one.id for one in gateway.openai().models.list()]

    assert served() == []
    settings.GATEWAY_AGENT_DISCOVERY_PATH = [gateway.agents]
    install("Weather")
    eventually(served, ["default/weather"])
