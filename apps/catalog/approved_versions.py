"""Approving content while the modules are locked: what lies in a folder, beside what serves, and the operator's word.

Nothing here executes or imports anything of a folder.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from django.db import transaction

from apps.catalog import archives, scan, versions
from apps.catalog.archives import Damaged
from apps.catalog.models import SHORT, ApprovedVersion, DropIn
from apps.core.errors import InvalidRequest

_LONGEST = 2000  # lines of a diff that are shown of one file


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is added, removed or changed; `lines` a unified diff, empty where the content is not shown."""

    name: str
    kind: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """What the folder holds, as of one moment: `changes` and `digest` are of the same files."""

    digest: str
    against: str  # digest of the version that it is compared with, "" for none
    changes: tuple[Change, ...]
    file_count: int
    is_approved: bool

    @property
    def short(self) -> str:
        return self.digest[:SHORT]

    @property
    def against_short(self) -> str:
        return self.against[:SHORT]


class CannotReview(InvalidRequest):
    """The folder is not here, changes right now, or is too large."""


def review(drop_in: DropIn) -> Review:
    """Read what lies in the agent's folder, and compare it with what serves. Raises CannotReview."""
    folder_id, path = drop_in.folder_id, Path(drop_in.folder)
    if not (path / scan.AGENT_FILE).is_file():
        raise CannotReview(f"{path} contains no {scan.AGENT_FILE} on this machine.")
    digest = scan.digest(scan.Folder(folder_id, path, scan.fingerprint(path)))
    archive = archives.pack(folder_id, path, digest)
    if archive is None:
        raise CannotReview(f"{path} changes right now. Look again in a moment.")
    if archive.content is None:
        raise CannotReview(f"{path} is too large to be approved: {archive.size:,} bytes. Move its data elsewhere.")
    against, before = _serving_files(drop_in)
    return Review(
        digest=digest,
        against=against,
        changes=tuple(changes(before, archives.files(archive.content))),
        file_count=archive.file_count,
        is_approved=ApprovedVersion.objects.filter(folder_id=folder_id, digest=digest).exists(),
    )


def _serving_files(drop_in: DropIn) -> tuple[str, Mapping[str, bytes]]:
    """Of the version that serves, else the one that was approved last."""
    approved = ApprovedVersion.objects.filter(folder_id=drop_in.folder_id).values_list("digest", flat=True)
    for digest in filter(None, [drop_in.digest, *approved.order_by("-approved_at")]):
        stored = versions.stored_files(drop_in.folder_id, digest)
        try:
            if stored is not None:
                return digest, archives.files(stored)
        except Damaged:
            continue
    return "", {}


def changes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[Change]:
    """What differs between the files of two versions. The content of what is no text, or is hidden as `.env`, is not
    shown."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            kind = "added" if old is None else "removed" if new is None else "changed"
            yield Change(name, kind, _diff(name, old or b"", new or b""))


def _diff(name: str, old: bytes, new: bytes) -> tuple[str, ...]:
    if PurePosixPath(name).name.startswith("."):
        return ()
    try:
        before, after = (_lines(one, is_code=name.endswith(".py")) for one in (old, new))
    except UnicodeDecodeError:
        return ()
    lines = tuple(difflib.unified_diff(before, after, lineterm=""))[2:]  # without the names
    rest = len(lines) - _LONGEST
    return (*lines[:_LONGEST], f"... {rest} more lines") if rest > 0 else lines


def _lines(content: bytes, *, is_code: bool) -> list[str]:
    """What cannot be seen is written out: characters that turn the direction of text would hide what runs."""
    *lines, last = content.decode(errors="backslashreplace" if is_code else "strict").split("\n")
    if last:
        lines += [last, "\\ No newline at end of file"]
    return [_visible(line) for line in lines]


def _visible(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode() for one in line)


@transaction.atomic
def approve(folder_id: str, folder: Path, digest: str, *, by: Any = None, note: str = "") -> ApprovedVersion:
    """Let this content of the folder be loaded, in all workers within about a second.

    Its files are kept, because it is loaded from them. Raises versions.CannotKeep when the folder holds something else
    by now.
    """
    versions.keep(folder_id, folder, digest)
    approved, _ = ApprovedVersion.objects.update_or_create(
        folder_id=folder_id, digest=digest, defaults={"approved_by": by, "note": note}
    )
    return approved


def approve_serving(*, by: Any = None, note: str = "") -> tuple[int, list[str]]:
    """Approve every version that serves now; returns how many folders, and a sentence for each that could not be."""
    serving = DropIn.objects.exclude(digest="").values_list("folder_id", "folder", "digest").distinct()
    count, failures = 0, []
    for folder_id, folder, digest in serving.order_by("folder_id"):
        try:
            approve(folder_id, Path(folder), digest, by=by, note=note)
            count += 1
        except versions.CannotKeep as error:
            failures.append(f"{folder_id}: {error.message}")
    return count, failures


def withdraw(folder_id: str, digest: str) -> bool:
    """End an approval, in all workers within about a second. False when there was none."""
    deleted, _ = ApprovedVersion.objects.filter(folder_id=folder_id, digest=digest).delete()
    return bool(deleted)
