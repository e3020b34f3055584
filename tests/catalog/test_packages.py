"""How drop-ins find their own modules and files, whatever the layout of their folder."""

import importlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.catalog.loader import Loaded
from tests.catalog.conftest import DiscoveryFolder

Load = Callable[..., Loaded]

AGENT = "\nfrom agents import Agent\nagent = Agent(name='x')\n"


def module_of(loaded: Loaded) -> dict[str, Any]:
    assert loaded.package is not None, loaded.problems
    return vars(loaded.package.modules[f"{loaded.package.name}.agent"])


@pytest.fixture(autouse=True)
def _python_as_before() -> Any:
    path, modules = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    own = {"helpers", "pkg", "pkg.inner", "lib", "shared", "Weather", "code.mine"}
    assert (set(sys.modules) - modules) & own == set()


# What a module does once, and how it imports then.
WAYS = [
    ("import importlib", "answer = importlib.import_module('helpers').answer"),
    ("from importlib import import_module", "answer = import_module('helpers').answer"),
    ("import importlib as i", "answer = i.import_module('pkg.inner').answer"),
    ("import importlib", "answer = importlib.import_module('.helpers', __package__).answer"),
    ("", "answer = __import__('helpers').answer"),
    ("", "answer = __import__('pkg.inner').inner.answer"),
    ("import importlib.util; assert importlib.util.find_spec('helpers')", "from helpers import answer"),
    ("from importlib.util import find_spec; assert not find_spec('no_such')", "from helpers import answer"),
    ("import pkgutil", "answer = pkgutil.get_data('pkg', 'number.txt').decode()"),
    ("from importlib.resources import files", "answer = (files('pkg') / 'number.txt').read_text()"),
    ("from importlib import resources", "answer = resources.files(__package__).joinpath('number.txt').read_text()"),
    ("import importlib.resources", "answer = (importlib.resources.files('loose') / 'number.txt').read_text()"),
    ("from pathlib import Path", "answer = (Path(__file__).parent / 'number.txt').read_text()"),
    ("", "from OWN.helpers import answer"),
    ("", "import OWN.pkg.inner; answer = OWN.pkg.inner.answer"),
    ("", "import OWN.helpers as h, helpers; answer = h.answer if h is helpers else None"),
    ("", "from src.lib import answer"),
    ("", "from lib import answer"),
    ("import sys, os; sys.path.append(os.path.join(os.path.dirname(__file__), 'deep'))", "from deeper import answer"),
    ("import sys; sys.path.insert(0, 'deep')", "import deeper; answer = deeper.answer"),
    ("", "from code import answer"),
]
MODULES = ("helpers", "pkg__inner", "loose__inner", "src__lib", "deep__deeper", "code")


@pytest.fixture
def load_numbered(load: Load, folder: DiscoveryFolder) -> Callable[[str, str, int], dict[str, Any]]:
    """Loads a drop-in in which every module and data file says the number; returns the names of its agent.py."""

    def load_numbered(text: str, name: str, number: int) -> dict[str, Any]:
        for place in ("", "pkg", "loose"):
            (folder.path / name / place).mkdir(parents=True, exist_ok=True)
            (folder.path / name / place / "number.txt").write_text(str(number))
        files = dict.fromkeys(MODULES, f"answer = {number}")
        return module_of(load(text.replace("OWN", name) + AGENT, name, pkg____init__="", **files))

    return load_numbered


@pytest.mark.parametrize(("once", "statement"), WAYS)
def test_module_is_found_however_it_is_named(load_numbered: Any, once: str, statement: str) -> None:
    for name, number in (("Other", 1), ("Weather", 42)):
        assert int(load_numbered(f"{once}\n{statement}", name, number)["answer"]) == number


@pytest.mark.parametrize(("once", "statement"), WAYS)
def test_module_is_found_while_a_run_is_under_way(load_numbered: Any, once: str, statement: str) -> None:
    """Imports inside functions happen long after the load, when nothing of it is in force any more."""
    body = "\n    ".join([*statement.split("; "), "return answer"])
    late = [load_numbered(f"{once}\ndef late():\n    {body}", *one)["late"] for one in (("One", 1), ("Two", 2))]

    assert [int(function()) for function in late] == [1, 2]


def test_sub_package_imports_what_lies_beside_agent_py(load: Load) -> None:
    loaded = load(
        "from parts.deep.inner import answer, late" + AGENT,
        helpers="answer = 42",
        parts____init__="",
        parts__deep__inner="""
            from helpers import answer
            from ..near import near
            def late():
                import importlib
                from parts.near import near
                return importlib.import_module("helpers").answer + near
            """,
        parts__near="near = 0",
    )

    assert (module_of(loaded)["answer"], module_of(loaded)["late"]()) == (42, 42)


def test_installed_packages_win_over_folders_without_init_and_files_win_over_them(load: Load) -> None:
    loaded = load(
        "import httpx2, tests_of_mine, docs.mine, dotenv\nanswer = docs.mine.answer + dotenv.answer" + AGENT,
        httpx2__loose="raise SystemError",
        tests_of_mine__loose="",
        docs__mine="answer = 40",  # the gateway's checkout has such a folder too
        dotenv="answer = 2",
    )

    assert module_of(loaded)["answer"] == 42
    assert module_of(loaded)["httpx2"].__name__ == "httpx2"


@pytest.mark.parametrize("statement", ["import json", "from types import SimpleNamespace", "import queue, secrets"])
def test_standard_library_is_never_hidden_from_who_means_it(load: Load, statement: str) -> None:
    loaded = load(statement + AGENT, json="1 / 0", types="1 / 0", queue="1 / 0", secrets="1 / 0")
    assert loaded.problems == ()


def test_own_init_and_relative_imports(load: Load) -> None:
    loaded = load(
        "from . import helpers, where\nfrom .parts import answer" + AGENT,
        __init__="from .helpers import where",
        helpers="where = __name__",
        parts____init__="from ..helpers import where\nanswer = 42",
    )

    assert module_of(loaded)["answer"] == 42
    assert module_of(loaded)["where"] == f"{loaded.package and loaded.package.name}.helpers"


def test_types_are_found_by_the_names_of_their_modules(load: Load) -> None:
    loaded = load(
        '''
        from __future__ import annotations
        import dataclasses, inspect, pickle, typing
        from agents import Agent, RunContextWrapper, function_tool
        from pydantic import BaseModel
        if typing.TYPE_CHECKING:
            from nowhere import Unknown

        @dataclasses.dataclass
        class Desk:
            visits: int = 0
            other: typing.ClassVar[Unknown] = None

        class Tree(BaseModel):
            children: list[Tree] = []
            leaf: Leaf | None = None

        class Leaf(BaseModel):
            name: str = "leaf"

        @function_tool
        def look(context: RunContextWrapper[Desk], tree: Tree) -> str:
            """Looks."""
            return tree.leaf.name

        def late() -> tuple:
            return pickle.loads(pickle.dumps(Desk(3))), Tree(leaf=Leaf()), inspect.getsource(Desk)

        agent = Agent[Desk](name='x', tools=[look])
        '''
    )
    desk, tree, source = module_of(loaded)["late"]()

    assert (desk.visits, tree.leaf.name, source.splitlines()[1]) == (3, "leaf", "class Desk:")
    assert loaded.published[0].problems == ()
    assert pickle.loads(pickle.dumps(desk)) == desk


def test_namespace_is_a_repository_whose_agents_share_packages(load: Load) -> None:
    files = {"../shared/__init__": "", "../shared/tools": "answer = 42", "../settings": "name = 'labs'"}
    text = "from shared.tools import answer\nimport settings\nfrom Planner.own import own" + AGENT
    loaded = load(text, "labs/Planner", own="own = 1", **{name.replace("/", "__"): one for name, one in files.items()})

    assert module_of(loaded)["answer"] == 42
    assert module_of(loaded)["settings"].name == "labs"
    assert not {"shared", "settings", "Planner"} & set(sys.modules)
    # Agents of the default namespace share nothing that they do not ask for.
    assert [one.code for one in load(text, "Alone", own="own = 1").problems] == ["missing_dependency"]


def test_path_that_a_module_adds_within_the_discovery_folder_is_its_own(load: Load) -> None:
    add = "import sys\nfrom pathlib import Path\nsys.path.append(str(Path(__file__).parent.parent / 'shared'))\n"
    one = load(add + "import lib" + AGENT, "a/One", **{"..__shared__lib": "names = []"})
    two = load(add + "import lib" + AGENT, "b/Two", **{"..__shared__lib": "names = {}"})

    assert (module_of(one)["lib"].names, module_of(two)["lib"].names) == ([], {})


def test_path_outside_the_discovery_folder_stays_while_the_agent_does(
    load: Load, folder: DiscoveryFolder, tmp_path: Path
) -> None:
    company = tmp_path / "company"
    company.mkdir()
    (company / "company_lib.py").write_text("import company_late_lib\nanswer = company_late_lib.answer")
    (company / "company_late_lib.py").write_text("answer = 42")
    late = "def late():\n    import company_lib\n    return company_lib\n"
    loaded = load(f"import sys\nsys.path.insert(0, {str(company)!r})\n{late}{AGENT}")
    assert loaded.package is not None

    assert sys.path[-1] == str(company)
    assert module_of(loaded)["late"]() is importlib.import_module("company_lib")
    loaded.package.release()
    assert str(company) not in sys.path
    with loaded.package.retained():
        assert sys.path[-1] == str(company)
    assert str(company) not in sys.path
    loaded.package.retain()  # the fixture releases it
    sys.path.remove(str(company))


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("from ..data import prices", "..data"),
        ("from .. import prices", ".."),
        ("from ...data.inner import prices", "...data.inner"),
        ("from ..default__other__g1 import agent", "..default__other__g1"),
        ("import parts.inner", "...data"),
    ],
)
def test_relative_import_that_leaves_the_folder_is_told_as_that(
    load: Callable[..., Loaded], statement: str, name: str
) -> None:
    loaded = load(
        f"from agents import Agent\n{statement}\nagent = Agent(name='x')",
        parts__inner="\nfrom ...data import prices",
        data="prices = 1",
    )

    (problem,) = loaded.problems
    assert (problem.code, problem.line) == ("import_error", 2)
    assert problem.reason.startswith(f"The module imports {name}, which lies outside its folder")
    assert "Put the whole package into Weather/" in problem.remedy


def test_relative_import_that_leaves_the_folder_may_be_tried(load: Callable[..., Loaded]) -> None:
    text = "try:\n  from ..data import prices\nexcept ImportError:\n  from data import prices\n"
    loaded = load(f"from agents import Agent\n{text}agent = Agent(name='x')", data="prices = 1")

    assert loaded.problems == ()
