"""Globs over ids such as `labs/*planner*`: `*` is any run of characters (slashes too), case does not count."""

import re
from collections.abc import Iterable
from functools import lru_cache

AGENT_GLOB = re.compile(r"[A-Za-z0-9._/*-]+")  # what a glob over agent ids may be made of


@lru_cache(maxsize=4096)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = "|".join(f"(?:{_expression(pattern)})" for pattern in patterns)
    return re.compile(alternatives or r"(?!)", re.IGNORECASE | re.DOTALL)


def _expression(pattern: str) -> str:
    """Atomic groups, as in the standard library's fnmatch: a glob of many stars stays fast on whatever it meets."""
    head, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return head
    *middle, tail = rest
    return head + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + tail


def matches(value: str, patterns: Iterable[str]) -> bool:
    """True when `value` as a whole fits at least one of the patterns; no patterns fit nothing."""
    return _compiled(tuple(patterns)).fullmatch(value) is not None


def specificity(pattern: str) -> tuple[int, int]:
    """How exactly a glob names what it fits, to compare: no star beats any star, then more literal characters win."""
    return ("*" not in pattern, len(pattern) - pattern.count("*"))
