"""What a text offers for the values of a JSON schema: names, numbers, dates, addresses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from apps.upstreams.demo.keywords import keywords

_PROSE = """
answer comment content description details input instruction instructions message notes output prompt query question
reason reasoning reply request response search summary task text thought
"""
_PROSE_NAMES = frozenset(_PROSE.split())
FORMATS: Mapping[str, tuple[str, str]] = {  # what it looks like in a text, and what stands in when it is not there
    "date": (r"\b\d{4}-\d\d-\d\d\b", "2026-01-15"),
    "date-time": (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "2026-01-15T12:00:00Z"),
    "time": (r"(?!)", "12:00:00Z"),
    "duration": (r"(?!)", "P1D"),
    "email": (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", "demo@example.com"),
    "uri": (r"https?://[^\s<>\"'”)\]]+[^\s<>\"'”)\].,;:!?]", "https://example.com/demo"),
    "uuid": (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "00000000-0000-4000-8000-000000000000"),
    "hostname": (r"(?!)", "example.com"),
    "ipv4": (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "192.0.2.1"),
    "ipv6": (r"(?!)", "2001:db8::1"),
}
_FORMAT_OF_NAME = {"email": "email", "mail": "email", "url": "uri", "uri": "uri", "link": "uri", "date": "date"}


@dataclass
class Hints:
    """`prose` is for properties that want a whole text. Names and numbers are used up in the order of the text."""

    text: str
    prose: str
    names: list[str]
    numbers: list[str]

    @classmethod
    def from_text(cls, text: str, prose: str | None = None) -> "Hints":
        """The text is its own prose unless another is given."""
        return cls(text, text if prose is None else prose, _names_in(text), re.findall(r"-?\d+(?:\.\d+)?", text))

    def string(self, name: str) -> str:
        """A string for the property of this name."""
        last_word = next(iter(re.findall(r"[a-z]+", name.lower())[-1:]), "")
        if last_word in _FORMAT_OF_NAME:
            return self.formatted(_FORMAT_OF_NAME[last_word])
        if last_word in _PROSE_NAMES:
            return self.prose or "demo"
        return self.names.pop(0) if self.names else "demo"

    def formatted(self, format_: str) -> str:
        """A string of one of the FORMATS."""
        looks_like, stand_in = FORMATS[format_]
        found = re.search(looks_like, self.text, re.IGNORECASE)
        return found[0] if found else stand_in

    def number(self) -> float:
        return float(self.numbers.pop(0)) if self.numbers else 1.0

    def truth(self, name: str) -> bool:
        """True when the text has all the words of the property's name: `is_urgent` and “this is urgent”."""
        words = keywords(name)
        return bool(words) and words <= keywords(self.text)


def _names_in(text: str) -> list[str]:
    """What a text puts in quotes, else its capitalised words inside sentences, else the word after a preposition."""
    quoted = re.findall(r"[\"“„«]([^\"“”„«»]+)[\"”“»]|(?<!\w)'([^']+)'(?!\w)", text)
    if quoted:
        return ["".join(groups) for groups in quoted]
    capitalised = re.findall(r"(?<![.!?:]\s)(?<!^)(?<!\w)[^\W\d_a-z][\w-]+(?:\s[^\W\d_a-z][\w-]+)*", text)
    found = [name for name in capitalised if name[0].isupper()]
    return found or re.findall(r"\b(?:in|at|to|from|for|called|named) (?!the\b|my\b|me\b|a\b)([^\W\d_]+)", text)
