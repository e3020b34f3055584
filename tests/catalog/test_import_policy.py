"""Denied imports: what the text of a file says, and that nothing of a folder is executed that contains one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from apps.catalog import apart, loader
from apps.catalog.import_names import imports
from apps.catalog.import_policy import Denied, denied_in
from apps.catalog.loader import Loaded
from tests.catalog.conftest import DiscoveryFolder

AGENT = "from agents import Agent\nagent = Agent(name='x')\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a, b.c as d", ["a", "b.c"]),
        ("from a.b import c, d as e", ["a.b", "a.b.c", "a.b.d"]),
        ("from a import *", ["a"]),
        ("from . import a\nfrom .b import c\nfrom .. import d", []),
        ("def f():\n  if True:\n    import a", ["a"]),
        ("class C:\n  import a", ["a"]),
        ("try:\n  import a\nexcept ImportError:\n  import b", ["a", "b"]),
        ("__import__('a')", ["a"]),
        ("import importlib\nimportlib.import_module('a.b')", ["importlib", "a.b"]),
        ("from importlib import import_module as load\nload('a')", ["importlib", "importlib.import_module"]),  # renamed
        ("import_module(name='a')", ["a"]),
        ("import_module('.a', 'b')", []),
        ("import_module(a)\n__import__('a' + 'b')\n__import__()", []),
        ("text = 'import a'  # import b", []),
    ],
)
def test_imports_are_named_with_what_they_may_mean(text: str, found: list[str]) -> None:
    assert [name for name, _ in imports(text.encode())] == found


@pytest.mark.parametrize(
    ("text", "patterns", "found"),
    [
        ("import subprocess", ["subprocess"], [("subprocess", "subprocess", 1)]),
        ("import os.path\nimport a.b.c", ["a.b"], [("a.b.c", "a.b", 2)]),
        ("import a", ["a.b"], []),
        ("import ab", ["a"], []),
        ("from subprocess import run, Popen", ["subprocess"], [("subprocess", "subprocess", 1)]),  # once a line
        ("from os import system", ["os.system"], [("os.system", "os.system", 1)]),
        ("import os\nos.system('x')", ["os.system"], []),  # as the docs say
        ("from os import execv", ["os.exec*"], [("os.execv", "os.exec*", 1)]),
        ("import b\nimport a", ["a", "b"], [("b", "b", 1), ("a", "a", 2)]),
        ("import a", [], []),
        ("import a\n  syntax error", ["a"], []),
        ("import a\0", ["a"], []),
    ],
)
def test_denied_name_stands_for_what_is_in_it_and_a_glob_for_what_fits(
    text: str, patterns: list[str], found: list[tuple[str, str, int]]
) -> None:
    told = denied_in(text.encode(), "x.py", patterns)
    assert told == [Denied(name, pattern, "x.py", line) for name, pattern, line in found]


def test_large_text_is_read_in_a_process_of_its_own_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    run = apart.subprocess.run

    def watched(command: list[str], **options: object) -> object:
        asked.append(command)
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(apart.subprocess, "run", watched)
    text = b"import socket\n" + b"x = 1\n" * (apart.LARGE // 6)
    assert denied_in(text, "x.py", ["socket"]) == [Denied("socket", "socket", "x.py", 1)]
    assert len(asked) == 1


def test_folder_is_looked_through_and_nothing_of_it_executed(folder: DiscoveryFolder, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    text = f"open({str(executed)!r}, 'w')\n{AGENT}"
    path = folder.write("Weather", text, tools__deep="import json\nimport ctypes", unused="import socket")
    loaded = loader.load("default/weather", path, denied_imports=("ctypes", "socket"))
    assert [(one.code, one.file, one.line) for one in loaded.problems] == [
        ("denied_import", str(path / "tools/deep.py"), 2),
        ("denied_import", str(path / "unused.py"), 1),
    ]
    assert (loaded.package, loaded.published, executed.exists()) == (None, (), False)


def test_file_that_changed_after_the_look_is_refused_when_it_is_imported(folder: DiscoveryFolder) -> None:
    path = folder.write("Weather", f"{AGENT}def late():\n  import helper\n", helper="")
    loaded = loader.load("default/weather", path, denied_imports=("ctypes",))
    assert loaded.package
    try:
        (path / "helper.py").write_text("import ctypes")
        module = loaded.package.modules[f"{loaded.package.name}.agent"]
        with pytest.raises(ImportError, match="ctypes is denied"):
            module.late()
    finally:
        loaded.package.release()


def test_code_of_the_namespace_outside_the_folder_is_refused_when_it_is_imported(folder: DiscoveryFolder) -> None:
    folder.write("labs/shared", "", common="import ctypes")
    path = folder.write("labs/Planner", f"from shared import common\n{AGENT}")
    loaded = loader.load("labs/planner", path, denied_imports=("ctypes",))
    (told,) = loaded.problems
    assert (told.code, told.file, told.line) == ("denied_import", str(folder.path / "labs/shared/common.py"), 1)


def test_empty_list_reads_nothing(load: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "imports", None)  # calling it would raise
    assert load(f"import subprocess\n{AGENT}").problems == ()
