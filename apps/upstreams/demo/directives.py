"""Directives: what the last user message asks for in double brackets. The package's docstring documents them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from apps.upstreams.demo.errors import DemoRequestError
from apps.upstreams.demo.phrases import REASONING, REFUSAL

MAX_WORDS = 100_000
MAX_DELAY = 10.0
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})


@dataclass(frozen=True)
class Directives:
    words: int | None = None
    say: str | None = None
    refuse: str | None = None
    reason: str | None = None
    finish: str | None = None
    delay: float | None = None
    no_tools: bool = False
    tools: tuple[str, ...] = ()
    args: tuple[str, ...] = ()

    @classmethod
    def from_text(cls, text: str) -> "Directives":
        """Raises DemoRequestError when a value is not one that the directive takes."""
        if "[[" not in text:
            return cls()
        found = list(_found_in(text))
        last = {one.name: one.value for one in found}
        words = _number(last, "words", MAX_WORDS)
        return cls(
            words=None if words is None else int(words),
            say=last.get("say"),
            refuse=(last["refuse"] or REFUSAL) if "refuse" in last else None,
            reason=(last["reason"] or REASONING) if "reason" in last else None,
            finish=_finish_reason(last.get("finish")),
            delay=_number(last, "delay", MAX_DELAY),
            no_tools="no-tools" in last,
            tools=tuple(one.value.strip() for one in found if one.name == "tool"),
            args=tuple(one.value for one in found if one.name == "args"),
        )

    @property
    def fix_the_answer(self) -> bool:
        return self.words is not None or self.say is not None or self.refuse is not None


def _number(given: Mapping[str, str], name: str, most: float) -> float | None:
    if name not in given:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", given[name]) and float(given[name]) <= most:
        return float(given[name])
    raise DemoRequestError(f"[[{name}=...]] takes a number from 0 to {most:g}.", param="messages")


def _finish_reason(given: str | None) -> str | None:
    if given is not None and given not in FINISH_REASONS:
        raise DemoRequestError(f"[[finish=...]] takes one of {', '.join(sorted(FINISH_REASONS))}.", param="messages")
    return given


def without_directives(text: str) -> str:
    kept, at = [], 0
    for found in _found_in(text):
        kept.append(text[at : found.start].rstrip())
        at = found.end
    return "".join([*kept, text[at:]]).strip() if at else text


_OPENING = re.compile(r"\[\[(words|say|refuse|reason|finish|tool|args|no-tools|delay)(?:=|(?=\]\]))", re.IGNORECASE)
_CLOSING = re.compile(r"\]\](?!\])")


class _Found(NamedTuple):
    """A directive, and where in the text it starts and ends."""

    name: str
    value: str
    start: int
    end: int


def _found_in(text: str) -> Iterator[_Found]:
    at = 0
    while opening := _OPENING.search(text, at):
        name, start = opening[1].lower(), opening.end()
        closing = _CLOSING.search(text, _end_of_json(text, start) if name == "args" else start)
        if closing is None:
            return
        at = closing.end()
        yield _Found(name, text[start : closing.start()], opening.start(), at)


def _end_of_json(text: str, start: int) -> int:
    """Where the JSON ends that stands here with `]]` behind it, brackets of its own and all; `start` if none does."""
    try:
        end = json.JSONDecoder().raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return start
    return end if text.startswith("]]", end) else start
