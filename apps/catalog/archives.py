"""A version of a folder as one compressed value, and its way back to the disk."""

import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from apps.catalog import scan

LARGEST = 5 * 1024 * 1024  # bytes of all files together; a larger folder is listed, but not kept
_LEVEL = 6  # of gzip: source text shrinks to a third, at a thousand folders a second
_DATABASES = (".db", ".sqlite", ".sqlite3")


class Damaged(Exception):
    """The files cannot be brought back; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Archive:
    """`content` is None when the folder is larger than LARGEST."""

    size: int
    file_count: int
    content: bytes | None


def pack(agent_id: str, path: Path, digest: str) -> Archive | None:
    """The files that make up version `digest`; None while the folder holds something else.

    What the scan skips is left out, and everything else is in: a `.env` too, for the version would not run without it.
    """
    folder = scan.Folder(agent_id, path, scan.fingerprint(path))
    size = sum(one[1] for one in folder.fingerprint)
    if scan.digest(folder) != digest:
        return None
    content = _tar(folder) if size <= LARGEST else None
    is_settled = scan.fingerprint(path) == folder.fingerprint  # nothing was written while we read
    return Archive(size, len(folder.fingerprint), content) if is_settled else None


def _tar(folder: scan.Folder) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=_LEVEL, format=tarfile.PAX_FORMAT) as tar:
        for name, _, mtime, _ in folder.fingerprint:
            path = folder.path / name
            content = _content(path)
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), mtime // 10**9, _mode(path)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _content(path: Path) -> bytes:
    """As the digest counts it: what is no file, or cannot be read, is empty."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _mode(path: Path) -> int:
    return 0o700 if os.access(path, os.X_OK) else 0o600  # as private as the data folder that they come back to


def unpack(agent_id: str, content: bytes, target: Path, digest: str) -> scan.Folder:
    """Bring version `digest` back into `target` and return it as a scan would see it. Raises Damaged.

    A file that is there as it should be stays; any other is replaced in one step. So several processes may do this at
    once, and a damaged folder is mended while it serves. Files that the version wrote beside its own are left alone.
    """
    try:
        names = _write_members(content, target)
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise Damaged(f"The stored files cannot be read ({error}).") from error
    except OSError as error:
        raise Damaged(f"The files cannot be written to {target} ({error}).") from error
    seen = tuple(one for one in scan.fingerprint(target) if one[0] in names)
    folder = scan.Folder(agent_id, target, seen, is_copy=True)
    if scan.digest(folder) != digest:
        raise Damaged("The stored files are not those of this version: their digest is another.")
    return folder


def files(content: bytes) -> dict[str, bytes]:
    """The files of an archive by their names. Raises Damaged."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            opened = ((member.name, tar.extractfile(member)) for member in tar)
            return {name: file.read() for name, file in opened if file}
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise Damaged(f"The stored files cannot be read ({error}).") from error


def _write_members(content: bytes, target: Path) -> set[str]:
    names = set()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        for member in tar:
            parts = PurePosixPath(member.name)
            source = tar.extractfile(member)
            if source is None or parts.is_absolute() or ".." in parts.parts:
                raise ValueError(f"{member.name!r} is no file of a folder")
            _write(target / parts, source.read(), member)
            names.add(member.name)
    return names


def _write(path: Path, content: bytes, member: tarfile.TarInfo) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")  # a suffix that the scan skips
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(member.mode)
        os.utime(temporary, (member.mtime, member.mtime))
        if not _placed(Path(temporary), path) and path.read_bytes() != content:
            Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _placed(new: Path, path: Path) -> bool:
    """Whether it is at `path` now, where nothing was. Of several processes one places its file, and all see that one:
    were another's put over it, whoever had seen the first would take the folder for changed."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        return False
    return True


def share_databases(live: Path, target: Path, names: Iterable[str]) -> None:
    """Let the version use the databases that lie beside the live code: they are the agent's memory, not its version."""
    for parent in {PurePosixPath(name).parent for name in names}:
        for database in _databases(live / parent):
            link = target / parent / database.name
            if not link.exists():
                _link(link, database)


def _databases(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.suffix in _DATABASES] if folder.is_dir() else []


def _link(link: Path, database: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(database.absolute())
    temporary.replace(link)  # in one step: a broken link is replaced, and another process may be doing the same
