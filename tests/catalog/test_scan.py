import os
from pathlib import Path

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
