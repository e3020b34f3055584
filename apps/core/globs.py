"""Globs over ids such as `labs/*planner*`: `*` is any run of characters (slashes too), case does not count."""

import re
from collections.abc import Iterable

# What a glob over agent ids may be made of; those of models have more than others: ollama/qwen3:8b, hub/name@main.
AGENT_GLOB = re.compile(r"[A-Za-z0-9._/*:@+-]+")


def matches(value: str, patterns: Iterable[str]) -> bool:
    """True when `value` as a whole fits at least one of the patterns; no patterns fit nothing."""
    return any(fits(value, pattern) for pattern in patterns)


def fits(value: str, pattern: str) -> bool:
    """Whether `value` as a whole fits the pattern. Takes time in proportion to both, whatever they are."""
    value, pattern = value.casefold(), pattern.casefold()
    if "*" not in pattern:
        return value == pattern
    head, *middle, tail = pattern.split("*")
    if len(value) < len(head) + len(tail) or not value.startswith(head) or not value.endswith(tail):
        return False
    start, end = len(head), len(value) - len(tail)
    for part in middle:
        found = value.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True


def specificity(pattern: str) -> tuple[int, int]:
    """How exactly a glob names what it fits, for comparing: no star beats any, then more other characters."""
    return ("*" not in pattern, len(pattern) - pattern.count("*"))


def covers(wide: str, narrow: str) -> bool:
    """Whether everything that fits `narrow` fits `wide`: a star of the one can only lie within a star of the other."""
    return fits(narrow, wide)
