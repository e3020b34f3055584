import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.catalog import scan
from tests.catalog.conftest import DiscoveryFolder


def ids(found: scan.Scan) -> list[str]:
    return [folder.agent_id for folder in found.folders]


def codes(found: scan.Scan) -> list[tuple[str, str]]:
    return [(agent_id, problem.code) for agent_id, problem in found.problems]


def test_ids_are_lower_case_words_of_namespace_and_folder(folder: DiscoveryFolder) -> None:
    for name in ("Weather", "labs/Deep Thought", "labs/v1.5_x"):
        folder.write_agent(name, "x")

    assert ids(scan.scan([folder.path])) == ["default/weather", "labs/deep-thought", "labs/v1.5_x"]


def test_hidden_folders_caches_and_environments_are_no_agents(folder: DiscoveryFolder) -> None:
    for name in (".git", "__pycache__", "venv", "labs/.hidden"):
        folder.write_agent(name, "x")
    (folder.write_agent("myenv", "x") / "pyvenv.cfg").touch()

    assert scan.scan([folder.path]) == scan.Scan()


def test_folder_with_code_but_no_agent_file_is_named(folder: DiscoveryFolder) -> None:
    (folder.write_agent("Weather", "x") / "agent.py").rename(folder.path / "Weather" / "main.py")
    (folder.path / "Data").mkdir()

    assert codes(scan.scan([folder.path])) == [("default/weather", "no_agent_file")]


@pytest.mark.parametrize("place", ["Repo/src/pkg", "Repo/src/pkg/inner", "Repo/a/b/c/d"])
def test_agent_that_lies_too_deep_is_named(folder: DiscoveryFolder, place: str) -> None:
    folder.write_agent(place, "x")
    folder.write_agent("Weather", "x")

    found = scan.scan([folder.path])

    assert ids(found) == ["default/weather"]
    ((agent_id, problem),) = found.problems
    assert (agent_id, problem.code, problem.file) == ("default/repo", "no_agent_file", str(folder.path / "Repo"))
    assert f"the one in {place.removeprefix('Repo/')}/ lies too deep" in problem.reason


def test_agent_that_lies_too_deep_in_a_namespace_is_named(folder: DiscoveryFolder) -> None:
    folder.write_agent("labs/Planner", "x")
    folder.write_agent("labs/Repo/src/pkg", "x")
    (folder.path / "labs" / "Data" / "raw").mkdir(parents=True)

    assert codes(scan.scan([folder.path])) == [("labs/repo", "no_agent_file")]


def test_lists_keep_ids_out(folder: DiscoveryFolder) -> None:
    for name in ("Weather", "labs/Planner", "labs/Secret"):
        folder.write_agent(name, "x")

    found = scan.scan([folder.path], allow=["labs/*"], deny=["*secret"])

    assert ids(found) == ["labs/planner"]
    assert codes(found) == [("default/weather", "denied"), ("labs/secret", "denied")]


def test_first_of_two_equal_ids_serves(folder: DiscoveryFolder, tmp_path: Path) -> None:
    folder.write_agent("Weather", "first")
    other = DiscoveryFolder(tmp_path / "more")
    other.write_agent("weather", "second")

    found = scan.scan([folder.path, other.path])

    assert [one.path for one in found.folders] == [folder.path / "Weather"]
    assert codes(found) == [("default/weather", "duplicate_id")]


def test_init_file_in_the_discovery_folder_and_absent_folder_are_named(folder: DiscoveryFolder) -> None:
    (folder.path / "__init__.py").touch()

    assert codes(scan.scan([folder.path, folder.path / "absent"])) == [
        ("*", "hides_sdk"),
        ("*", "no_discovery_folder"),
    ]


def test_links_in_circles_and_broken_links_do_not_break_the_scan(folder: DiscoveryFolder) -> None:
    weather = folder.write_agent("Weather", "x")
    (weather / "again").symlink_to(weather)
    (weather / "itself").symlink_to("itself")
    (weather / "nowhere.py").symlink_to("absent.py")
    (folder.path / "loop").symlink_to("loop")
    os.mkfifo(weather / "pipe")

    found = scan.scan([folder.path])

    assert ids(found) == ["default/weather"]
    assert len(scan.digest(found.folders[0])) == 64


def test_fingerprint_moves_with_files_that_count_and_only_with_them(folder: DiscoveryFolder) -> None:
    weather = folder.write_agent("Weather", "x")
    before = scan.fingerprint(weather)
    for name in (".agent.py.swp", "agent.py~", "chat.db", "run.log", "x.pyc"):
        (weather / name).write_text("x")
    (weather / "__pycache__").mkdir()
    (weather / "__pycache__" / "agent.py").touch()
    assert scan.fingerprint(weather) == before

    (weather / "data").mkdir()
    (weather / "data" / "cities.csv").touch()
    assert scan.fingerprint(weather) != before


def test_digest_is_of_names_and_contents_alone(folder: DiscoveryFolder) -> None:
    weather = folder.write_agent("Weather", "x")
    (first,) = scan.scan([folder.path]).folders
    before = scan.digest(first)
    os.utime(weather / "agent.py", (1, 1))
    (touched,) = scan.scan([folder.path]).folders
    assert touched != first
    assert touched.created == 1
    assert scan.digest(touched) == before

    folder.write_agent("Weather", "y")
    assert scan.digest(*scan.scan([folder.path]).folders) != before


# --- looking again ---------------------------------------------------------------------------------------------------


def move(folder: DiscoveryFolder, old: str, new: str) -> list[Path]:
    (folder.path / new).parent.mkdir(exist_ok=True)
    (folder.path / old).rename(folder.path / new)
    return [folder.path / old, folder.path / new]


def remove(folder: DiscoveryFolder, name: str) -> list[Path]:
    path = folder.path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [path]


def write(folder: DiscoveryFolder, name: str, text: str = "x") -> list[Path]:
    path = folder.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [path]


STEPS: list[Callable[[DiscoveryFolder], list[Path]]] = [
    lambda folder: write(folder, "Weather/agent.py", "edited"),
    lambda folder: write(folder, "labs/Planner/data/prices.csv"),
    lambda folder: [*write(folder, "labs/Planner/agent.py"), *write(folder, "Weather/tools.py")],
    lambda folder: write(folder, "labs/New/agent.py"),
    lambda folder: write(folder, "labs/Code/main.py"),
    lambda folder: remove(folder, "labs/Planner/agent.py"),
    lambda folder: write(folder, "labs/Planner/agent.py", "back"),
    lambda folder: remove(folder, "labs/New"),
    lambda folder: write(folder, "Alone/main.py"),
    lambda folder: write(folder, "Alone/inner/agent.py"),
    lambda folder: move(folder, "labs", "team"),
    lambda folder: write(folder, "team/agent.py", "an agent itself now"),
    lambda folder: remove(folder, "team/agent.py"),
    lambda folder: remove(folder, "Weather"),
    lambda folder: write(folder, "weather/agent.py"),
    lambda folder: write(folder, "WEATHER/agent.py", "the same id"),
    lambda folder: write(folder, "weather/pyvenv.cfg"),
    lambda folder: write(folder, "__init__.py"),
    lambda folder: remove(folder, "__init__.py"),
    lambda folder: remove(folder, "team"),
]


def test_look_at_what_changed_sees_what_a_look_at_everything_sees(folder: DiscoveryFolder, tmp_path: Path) -> None:
    other = DiscoveryFolder(tmp_path / "other")
    for one, name in ((folder, "Weather"), (folder, "labs/Planner"), (folder, "labs/Critic"), (other, "Weather")):
        one.write_agent(name, "x")
    roots = [folder.path, other.path]
    scanner = scan.Scanner(roots, deny=["labs/critic"])
    assert scanner.look() == scan.scan(roots, deny=["labs/critic"])

    for number, step in enumerate(STEPS):
        changed = step(folder)
        assert (number, scanner.look(changed)) == (number, scan.scan(roots, deny=["labs/critic"]))
    assert scanner.look([]) == scan.scan(roots, deny=["labs/critic"])


def test_look_leaves_out_what_did_not_change(folder: DiscoveryFolder) -> None:
    folder.write_agent("Weather", "x")
    folder.write_agent("Planner", "x")
    scanner = scan.Scanner([folder.path])
    before = scanner.look()
    write(folder, "Planner/agent.py", "edited")

    assert scanner.look([folder.path / "Weather" / "agent.py"]) == before
    assert scanner.look() != before


def test_links_are_named(folder: DiscoveryFolder, tmp_path: Path) -> None:
    """A linked agent, a linked namespace, and an agent with a linked file; not what the scan skips."""
    elsewhere = DiscoveryFolder(tmp_path / "elsewhere")
    elsewhere.write_agent("Agent", "x")
    for name in ("Plain", "Skips", "WithLink"):
        folder.write_agent(name, "x")
    (folder.path / "Linked").symlink_to(elsewhere.path / "Agent")
    (folder.path / "team").symlink_to(elsewhere.path)
    (folder.path / "WithLink" / "data").symlink_to(elsewhere.path)
    (folder.path / "Skips" / "venv").symlink_to(elsewhere.path)
    scanner = scan.Scanner([folder.path])
    scanner.look()

    assert scanner.linked() == {folder.path / name for name in ("Linked", "team", "WithLink")}


@pytest.mark.parametrize(
    ("path", "never"),
    [
        ("Weather/agent.py", False),
        ("Weather/.env", False),
        ("Weather/data/x.csv", False),
        (".git", False),  # might be a file
        ("Weather/.git/index", True),
        ("Weather/__pycache__/agent.cpython-311.pyc", True),
        ("Weather/agent.py~", True),
        ("Weather/memory.db-wal", True),
    ],
)
def test_what_never_makes_a_version(path: str, never: bool) -> None:
    assert scan.never_counts(path.split("/")) is never
