"""What an expression of PromQL names: enough of its grammar for the files of deploy/ and the examples of the docs."""

import re
from dataclasses import dataclass, field

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()(?:\s*(\{[^}]*\}))?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "atan2", "start", "end"})


@dataclass
class Named:
    """Series with the labels that they are chosen by, and the labels that results are grouped by."""

    series: list[tuple[str, set[str]]] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)


def named(expression: str) -> Named:
    found = Named()
    rest = _RANGE.sub("", _STRING.sub('""', expression))
    for grouping in _GROUPING.finditer(rest):
        found.groups |= {label.strip() for label in grouping[1].split(",")}
    for selector in _SELECTOR.finditer(_GROUPING.sub(" ", rest)):
        name, labels = selector[1], selector[2] or ""
        if name.lower() not in _WORDS:
            found.series.append((name, set(_LABEL.findall(labels))))
    return found
