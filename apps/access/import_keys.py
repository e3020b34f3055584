"""Keys of another gateway, taken over by their digests: whoever holds one goes on using it, and nobody sees it.

CSV with a header line, or JSON lines: docs/access.md lists the columns.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils.dateparse import parse_datetime

from apps.access.keys import grant_only
from apps.access.models import ApiKey, Team
from apps.core.globs import AGENT_GLOB

COLUMNS = ("name", "digest", "prefix", "owner", "team", "scopes", "agents", "expires_at")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST = {"name": 100, "owner": 200, "prefix": 16}
_SCOPES = frozenset({"chat", "admin"})


class WrongLines(Exception):
    """`remarks` are one sentence for each line that is wrong, with its number and a remedy."""

    def __init__(self, remarks: list[str]) -> None:
        super().__init__("\n".join(remarks))
        self.remarks = remarks


@dataclass(slots=True)
class Imported:
    """The names of keys that were made, and of those that were here already."""

    made: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def import_keys(text: str, *, dry_run: bool = False, created_by: Any = None) -> Imported:
    """Make a key with its grants for each line, or raise WrongLines and make none.

    A key whose digest is known here is skipped. `dry_run` says what would be made, and makes nothing.
    """
    keys = _checked(_lines(text))
    known = _known()
    imported = Imported()
    with transaction.atomic():
        for key in keys:
            if key.fields["digest"] in known:
                imported.skipped.append(key.fields["name"])
                continue
            imported.made.append(key.fields["name"])
            if not dry_run:
                grant_only(ApiKey.objects.create(**key.fields, created_by=created_by), key.agents)
    return imported


def _known() -> set[str]:
    """Of former credentials too: they count until their time is over."""
    return {digest for pair in ApiKey.objects.values_list("digest", "previous_digest") for digest in pair}


# --- reading ---------------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """What is wrong with a line, and the remedy."""


@dataclass(frozen=True, slots=True)
class _Key:
    fields: Mapping[str, Any]  # as ApiKey's
    agents: list[str]


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """Each line's number and its members. What cannot be read at all is a _Wrong in their place."""
    text = text.removeprefix("\ufeff")  # as spreadsheets begin their CSV
    if text.lstrip().startswith("{"):
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield number, _json(line)
        return
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    for row in reader:
        yield reader.line_num, row


def _json(line: str) -> Any:
    try:
        members = json.loads(line)
    except ValueError as error:
        return _Wrong(f"this is no JSON ({error}). Write one object a line.")
    return members if isinstance(members, dict) else _Wrong("this is no JSON object. Write one object a line.")


def _checked(lines: Iterable[tuple[int, Any]]) -> list[_Key]:
    keys, remarks = [], []
    seen: dict[str, int] = {}
    teams = {team.name: team for team in Team.objects.all()}
    for number, members in lines:
        try:
            keys.append(_once(_key(members, teams), number, seen))
        except _Wrong as wrong:
            remarks.append(f"Line {number}: {wrong}")
    if remarks:
        raise WrongLines(remarks)
    if not keys:
        raise WrongLines([f"There is no key in it. The first line names the columns: {', '.join(COLUMNS)}."])
    return keys


def _once(key: _Key, number: int, seen: dict[str, int]) -> _Key:
    first = seen.setdefault(key.fields["digest"], number)
    if first != number:
        raise _Wrong(f"it has the digest of line {first}. Take one of the two out.")
    return key


def _key(members: Any, teams: Mapping[str, Team]) -> _Key:
    if isinstance(members, _Wrong):
        raise members
    if None in members:  # csv's own name for what is left over
        raise _Wrong("it has more cells than there are columns. Put quotes around a cell with a comma in it.")
    if unknown := [str(name) for name in members if name not in COLUMNS]:
        raise _Wrong(f"there is no column “{unknown[0]}”. The columns are {', '.join(COLUMNS)}.")
    texts = {name: _text(name, members.get(name)) for name in ("name", "digest", "prefix", "owner", "team")}
    if not texts["name"]:
        raise _Wrong("it has no name. Say who or what uses the key.")
    if not _DIGEST.fullmatch(texts["digest"]):
        raise _Wrong("the digest is not the key's SHA-256 in 64 hexadecimal digits. Never put the key itself here.")
    if texts["team"] and texts["team"] not in teams:
        raise _Wrong(f"there is no team “{texts['team']}”. Add it first, or leave the team empty.")
    scopes = _scopes(members.get("scopes"))
    fields = {
        "name": texts["name"],
        "digest": texts["digest"].lower(),
        "prefix": texts["prefix"],
        "owner": texts["owner"],
        "team": teams.get(texts["team"]),
        "may_chat": "chat" in scopes,
        "may_administer": "admin" in scopes,
        "expires_at": _instant(members.get("expires_at")),
    }
    return _Key(fields, _globs(members.get("agents")))


def _text(name: str, value: Any) -> str:
    text = str(value or "").strip()
    longest = _LONGEST.get(name)
    if longest and len(text) > longest:
        raise _Wrong(f"the {name} has {len(text)} characters. Shorten it to {longest}.")
    return text


def _words(value: Any) -> list[str]:
    """Of a list in JSON, or of a cell with spaces or semicolons between them."""
    return [str(one) for one in value] if isinstance(value, list) else re.split(r"[\s;]+", str(value or "").strip())


def _scopes(value: Any) -> set[str]:
    scopes = {word.lower() for word in _words(value) if word} or {"chat"}
    if unknown := sorted(scopes - _SCOPES):
        raise _Wrong(f"there is no scope “{unknown[0]}”. Write chat, admin or both.")
    return scopes


def _globs(value: Any) -> list[str]:
    globs = [word for word in _words(value) if word]
    if wrong := [glob for glob in globs if not AGENT_GLOB.fullmatch(glob)]:
        raise _Wrong(f"“{wrong[0]}” is no glob over agent ids. Write such as default/* or *planner*.")
    return globs


def _instant(value: Any) -> datetime | None:
    if not value:
        return None
    try:
        instant = parse_datetime(str(value).strip())
    except ValueError:
        instant = None
    if instant is None:
        raise _Wrong(f"“{value}” is no instant. Write such as 2027-01-31T12:00:00Z, or nothing for no end.")
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
