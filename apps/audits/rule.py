"""What a rule of the audit is. Each lies in a file of `rules/`, which defines `RULE`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    HIGH = "high"  # somebody gets in, or something fails, that should not
    MEDIUM = "medium"
    LOW = "low"  # housekeeping


class NotChecked(Exception):
    """A rule cannot be checked here; the message is one sentence with the reason and what would make it possible."""


@dataclass(frozen=True, slots=True)
class Found:
    """`subject` is what the finding is about, in words that stay the same from night to night, such as
    `key old-script`: with the rule's id they are the finding's identity. `link` is a path of the console. An empty
    `remedy` is the rule's."""

    subject: str
    message: str
    remedy: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """`check` reads and changes nothing, may use the database, and runs in a Celery worker or a command: it sees no
    server process's memory. It raises NotChecked, or whatever it fails with, which is recorded as a failed check."""

    id: str  # kebab-case, and the file's name with underscores: keys-without-expiry
    title: str  # one line: Keys that never expire
    severity: Severity
    remedy: str
    check: Callable[[], Iterable[Found]]
