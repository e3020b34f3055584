"""What lies in the discovery folders, without executing any of it.

`<root>/<Name>/agent.py` is `default/<name>`, `<root>/<namespace>/<Name>/agent.py` is `<namespace>/<name>`.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apps.catalog.diagnostics import Problem, problem
from apps.core import globs

AGENT_FILE = "agent.py"
DEFAULT_NAMESPACE = "default"
EVERYWHERE = "*"  # the agent id of problems that concern a discovery folder as a whole

_ID_LENGTH = 200  # of the column that holds it
_LARGE = 8 * 1024 * 1024  # bytes; a larger file counts by size and time instead of content
_SKIPPED_FOLDERS = {"__pycache__", "venv", "env", "node_modules", "site-packages"}
# Editors' temporary files, bytecode, and what agents write beside themselves while they run: no new version.
_SKIPPED_FILES = re.compile(
    r"~$|^#.*#$|^\.#|\.sw[a-z]$|^4913$|\.tmp$|\.py[co]$|^\.DS_Store$|\.(log|lock|db|sqlite3?)$|-(wal|shm|journal)$"
)

Fingerprint = tuple[tuple[str, int, int, int], ...]  # relative path, size, mtime_ns, inode


@dataclass(frozen=True, slots=True)
class Folder:
    """A drop-in as it lies on the disk."""

    agent_id: str
    path: Path
    fingerprint: Fingerprint

    @property
    def created(self) -> int:
        """Unix seconds: when agent.py was written. Stable over restarts."""
        return next((mtime // 10**9 for name, _, mtime, _ in self.fingerprint if name == AGENT_FILE), 0)


@dataclass(frozen=True, slots=True)
class Scan:
    """`problems` are pairs of agent id and problem; they may name ids that no folder serves."""

    folders: tuple[Folder, ...] = ()
    problems: tuple[tuple[str, Problem], ...] = ()


@dataclass(slots=True)
class _Found:
    folders: dict[str, Folder] = field(default_factory=dict)
    problems: list[tuple[str, Problem]] = field(default_factory=list)


def scan(roots: Iterable[Path], allow: Sequence[str] = (), deny: Sequence[str] = ()) -> Scan:
    """Look once. Of folders with the same id the first serves (in the order of the roots, then by name)."""
    found = _Found()
    for root in roots:
        if not root.is_dir():
            found.problems.append((EVERYWHERE, _no_discovery_folder(root)))
            continue
        if (root / "__init__.py").exists():
            found.problems.append((EVERYWHERE, _hides_sdk(root)))
        for id, path in candidates(root):
            _judge(found, id, path, allow, deny)
    return Scan(tuple(found.folders.values()), tuple(found.problems))


def candidates(root: Path) -> Iterator[tuple[str, Path]]:
    """Every folder that is an agent, or looks like one, with the id that it has."""
    for path in _subfolders(root):
        if _is_agent(path):
            yield agent_id(DEFAULT_NAMESPACE, path.name), path
            continue
        inner = list(_subfolders(path))
        if any(map(_is_agent, inner)):
            yield from ((agent_id(path.name, one.name), one) for one in inner if _is_agent(one) or _has_code(one))
        elif _has_code(path):
            yield agent_id(DEFAULT_NAMESPACE, path.name), path


def _judge(found: _Found, id: str, path: Path, allow: Sequence[str], deny: Sequence[str]) -> None:
    if (allow and not globs.matches(id, allow)) or globs.matches(id, deny):
        found.problems.append((id, _denied(id, path)))
    elif not _is_agent(path):
        found.problems.append((id, _no_agent_file(path)))
    elif id in found.folders:
        found.problems.append((id, _duplicate(id, path, found.folders[id].path)))
    else:
        found.folders[id] = Folder(id, path, fingerprint(path))


def agent_id(namespace: str, name: str) -> str:
    return "/".join(re.sub(r"[^a-z0-9._-]", "-", part.lower()) for part in (namespace, name))[:_ID_LENGTH]


def _is_agent(path: Path) -> bool:
    return (path / AGENT_FILE).is_file()


def _has_code(path: Path) -> bool:
    return any(entry.name.endswith(".py") and entry.name != "__init__.py" for entry in _list(path))


def _subfolders(path: Path) -> Iterator[Path]:
    for entry in _list(path):
        if _is_folder(entry) and not _is_skipped(entry):
            yield Path(entry.path)


def _is_skipped(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    return name.startswith(".") or name in _SKIPPED_FOLDERS or Path(entry.path, "pyvenv.cfg").exists()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _list(path: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # unreadable, or gone since its parent was listed: nothing in it serves
        return []


# --- fingerprint and digest ------------------------------------------------------------------------------------------


def fingerprint(path: Path) -> Fingerprint:
    """Changes whenever a file of the folder may have changed. Costs one stat per file."""
    return tuple(sorted(_stats(str(path), "", set())))


def _stats(folder: str, prefix: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, int, int, int]]:
    for entry in _list(folder):
        try:
            if entry.is_dir():
                # A link may lead to a folder that contains it: no folder is entered twice on one way down.
                status = entry.stat()
                place = (status.st_dev, status.st_ino)
                if not _is_skipped(entry) and place not in above:
                    yield from _stats(entry.path, f"{prefix}{entry.name}/", above | {place})
            elif not _SKIPPED_FILES.search(entry.name):
                status = entry.stat()
                yield f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns, status.st_ino
        except OSError:  # vanished while we looked, or a broken link
            continue


def digest(folder: Folder) -> str:
    """SHA-256 over the relative names and contents of the files: equal for equal content, whatever the times."""
    total = hashlib.sha256()
    for name, size, mtime, _ in folder.fingerprint:
        content = f"{size} {mtime}".encode() if size > _LARGE else _content(folder.path / name)
        total.update(os.fsencode(name) + b"\0" + hashlib.sha256(content).digest())
    return total.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""  # reading a named pipe would wait for ever
    except OSError:
        return b""


# --- problems --------------------------------------------------------------------------------------------------------


def _no_discovery_folder(root: Path) -> Problem:
    return problem(
        "no_discovery_folder",
        f"The discovery folder {root} does not exist.",
        "Create it, or correct GATEWAY_AGENT_DISCOVERY_PATH.",
        root,
    )


def _hides_sdk(root: Path) -> Problem:
    return problem(
        "hides_sdk",
        f"{root / '__init__.py'} makes the discovery folder a Python package; a package called agents hides the SDK.",
        f"Remove the file: `rm {root / '__init__.py'}`.",
        root / "__init__.py",
    )


def _denied(agent_id: str, path: Path) -> Problem:
    return problem(
        "denied",
        f"{agent_id} is kept out by the discovery allowlist or denylist; none of its code was executed.",
        "Change GATEWAY_AGENT_DISCOVERY_ALLOWLIST or GATEWAY_AGENT_DISCOVERY_DENYLIST if it should serve.",
        path,
    )


def _no_agent_file(path: Path) -> Problem:
    return problem(
        "no_agent_file",
        f"{path} contains Python files but no {AGENT_FILE}.",
        f"Rename the file that defines the agent to {AGENT_FILE}, or move the folder elsewhere.",
        path,
    )


def _duplicate(agent_id: str, path: Path, first: Path) -> Problem:
    return problem(
        "duplicate_id",
        f"{path} has the same id, {agent_id}, as {first}, which serves; this one is left out.",
        "Rename one of the two folders.",
        path,
    )
