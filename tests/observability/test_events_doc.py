"""docs/systems/observability.md lists every event of the log as the source has it, and which are kept under Errors."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from apps.observability.remembered import LINES
from tests.harness.processes import ROOT

DOC = ROOT / "docs" / "systems" / "observability.md"
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
METHOD = rf"log\.(log|{'|'.join(LEVELS)})"
ROW = re.compile(r"^\| `(?P<event>[a-z_.]+)` \| (?P<levels>[a-z, ]+) \| (?P<when>[^|]+) \| (?P<fields>[^|]*) \|$")


@dataclass
class Event:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def calls() -> Iterator[ast.Call]:
    for folder in ("apps", "gateway_site"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and re.fullmatch(METHOD, ast.unparse(node.func)):
                    yield node


def in_source() -> dict[str, Event]:
    found: dict[str, Event] = {}
    for call in calls():
        assert isinstance(call.func, ast.Attribute)
        method = call.func.attr
        name = call.args[1] if method == "log" else call.args[0]
        assert isinstance(name, ast.Constant), f"the event of a line is a word: {ast.unparse(call)}"
        event = found.setdefault(name.value, Event())
        if method == "log":
            event.levels |= set(re.findall(r"logging\.([A-Z]+)", ast.unparse(call.args[0])))
        else:
            event.levels.add(LEVELS[method].upper())
        event.fields |= {one.arg for one in call.keywords if one.arg and one.arg != "exc_info"}
    return found


def in_doc() -> dict[str, re.Match[str]]:
    return {row["event"]: row for line in DOC.read_text().splitlines() if (row := ROW.match(line))}


def test_doc_lists_the_events_that_there_are() -> None:
    assert sorted(in_doc()) == sorted(in_source())


def test_doc_names_level_and_fields_of_each() -> None:
    documented = in_doc()
    missing = {}
    for name, event in in_source().items():
        levels = set(documented[name]["levels"].upper().split(", "))
        fields = set(re.findall(r"`([a-z_]+)`", documented[name]["fields"]))
        if not (event.levels <= levels and event.fields == fields):
            missing[name] = (event.levels - levels, event.fields ^ fields)
    assert missing == {}


def test_events_that_are_kept_under_errors_exist_and_are_marked() -> None:
    marked = {name for name, row in in_doc().items() if "*" in row["when"]}

    assert marked == set(LINES)
    assert set(LINES) <= set(in_source())
