"""Taking secrets out of what a tool's server sends back, before a model or a log sees it."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from apps.core.redaction import MASK

_SHORTEST: Final = 6  # characters: less stands in any text
_SECRET: Final = re.compile(r"authorization|cookie|api[-_]?key|token|secret|password", re.IGNORECASE)


def looks_secret(name: str) -> bool:
    """Whether a header or variable of this name usually holds something that is not to be told."""
    return bool(_SECRET.search(name))


def secret_parts(values: Iterable[str]) -> tuple[str, ...]:
    """What is not to be told of these values, the longest first: each as a whole, and its words."""
    return tuple(sorted({part for value in values for part in _parts(value)}, key=len, reverse=True))


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Without the `secret_parts`."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _parts(value: str) -> Iterator[str]:
    """`Bearer abc` is secret as a whole, and so is what follows the word."""
    for one in (value, *value.split()):
        if len(one) >= _SHORTEST and one.casefold() != "bearer":
            yield one
