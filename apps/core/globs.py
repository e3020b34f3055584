"""Globs over ids such as `labs/*planner*`: `*` is any run of characters (slashes too), case does not count."""

import re
from collections.abc import Iterable
from functools import lru_cache

AGENT_GLOB = re.compile(r"[A-Za-z0-9._/*-]+")  # what a glob over agent ids may be made of


@lru_cache(maxsize=4096)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = (".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns)
    return re.compile("|".join(f"(?:{one})" for one in alternatives) or r"(?!)", re.IGNORECASE | re.DOTALL)


def matches(value: str, patterns: Iterable[str]) -> bool:
    """True when `value` as a whole fits at least one of the patterns; no patterns fit nothing."""
    return _compiled(tuple(patterns)).fullmatch(value) is not None
