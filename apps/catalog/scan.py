"""What lies in the discovery folders, without executing any of it.

`<root>/<Name>/agent.py` is `default/<name>`, `<root>/<namespace>/<Name>/agent.py` is `<namespace>/<name>`.
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apps.catalog.diagnostics import Problem, problem
from apps.core import globs

AGENT_FILE = "agent.py"
DEFAULT_NAMESPACE = "default"
EVERYWHERE = "*"  # the agent id of problems that concern a discovery folder as a whole

_ID_LENGTH = 200  # of the column that holds it
_DEEPEST = 4  # folders below one that is no agent, where a misplaced agent.py is looked for
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
    withheld: Problem | None = None  # why nothing of it may be loaded
    is_copy: bool = False  # of a kept version, elsewhere

    @property
    def created(self) -> int:
        """Unix seconds: when agent.py was written. Stable over restarts."""
        return next((mtime // 10**9 for name, _, mtime, _ in self.fingerprint if name == AGENT_FILE), 0)

    def has_changed(self) -> bool:
        """Whether its files are not what they were. What an agent writes beside its copy is not part of that."""
        now = fingerprint(self.path)
        return not set(self.fingerprint).issubset(now) if self.is_copy else now != self.fingerprint


@dataclass(frozen=True, slots=True)
class Scan:
    """`problems` are pairs of agent id and problem; they may name ids that no folder serves."""

    folders: tuple[Folder, ...] = ()
    problems: tuple[tuple[str, Problem], ...] = ()


@dataclass(slots=True)
class _Found:
    folders: dict[str, Folder] = field(default_factory=dict)
    problems: list[tuple[str, Problem]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder that is an agent, or looks like one."""

    agent_id: str
    path: Path
    folder: Folder | None  # None without agent.py
    has_links: bool  # files of it may change elsewhere


@dataclass(frozen=True, slots=True)
class _Entry:
    """A folder directly in a discovery folder: an agent, a namespace of several, or neither."""

    path: Path
    is_link: bool
    places: Mapping[Path, _Place]


def scan(roots: Iterable[Path], allow: Sequence[str] = (), deny: Sequence[str] = ()) -> Scan:
    """Look once. Of folders with the same id the first serves (in the order of the roots, then by name)."""
    return Scanner(roots, allow, deny).look()


class Scanner:
    """Looks at the discovery folders again and again, each time only where something may have changed.

    Not thread-safe: one caller at a time.
    """

    def __init__(self, roots: Iterable[Path], allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        self._roots = tuple(map(_Root, roots))
        self._allow, self._deny = allow, deny
        self._seen: Scan | None = None

    def look(self, changed: Collection[Path] | None = None) -> Scan:
        """Look at the agents that the `changed` files and folders belong to, or everywhere. The whole picture."""
        if self._seen is None or changed is None or changed:
            for root in self._roots:
                root.look(None if self._seen is None else changed)
            self._seen = self._judged()
        return self._seen

    def folders(self) -> dict[Path, Folder]:
        """The agents' folders as they were when they were looked at last."""
        return {path: one.folder for root in self._roots for path, one in root.places().items() if one.folder}

    def linked(self) -> set[Path]:
        """Where files change that lie elsewhere, behind symbolic links."""
        return {path for root in self._roots for path in root.linked()}

    def _judged(self) -> Scan:
        found = _Found()
        for root in self._roots:
            if not root.path.is_dir():
                found.problems.append((EVERYWHERE, _no_discovery_folder(root.path)))
                continue
            if (root.path / "__init__.py").exists():
                found.problems.append((EVERYWHERE, _hides_sdk(root.path)))
            for place in root.places().values():
                _judge(found, place, self._allow, self._deny)
        return Scan(tuple(found.folders.values()), tuple(found.problems))


class _Root:
    """What one discovery folder contained when it was looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, _Entry] = {}

    def look(self, changed: Collection[Path] | None) -> None:
        if changed is None or self.path in changed:
            self._entries = {path.name: _entry(path) for path in _subfolders(self.path)}
            return
        for name, touched in self._touched(changed).items():
            known = self._entries.pop(name, None)
            path = self.path / name
            if _is_entered(path):
                self._entries[name] = _entry_again(known, touched) if known else _entry(path)

    def places(self) -> Mapping[Path, _Place]:
        return {path: place for _, entry in sorted(self._entries.items()) for path, place in entry.places.items()}

    def linked(self) -> Iterator[Path]:
        for entry in self._entries.values():
            if entry.is_link:
                yield entry.path
            else:
                yield from (path for path, place in entry.places.items() if place.has_links)

    def _touched(self, changed: Iterable[Path]) -> Mapping[str, set[Path]]:
        """The changed paths by the entry that they lie in, cut where a namespace has its agents."""
        touched: dict[str, set[Path]] = defaultdict(set)
        for path in changed:
            if path.is_relative_to(self.path):
                parts = path.relative_to(self.path).parts[:2]
                touched[parts[0]].add(self.path.joinpath(*parts))
        return touched


def _entry(path: Path) -> _Entry:
    places = {inner: _place(id, inner) for id, inner in _inside(path)}
    return _Entry(path, path.is_symlink(), places)


def _entry_again(known: _Entry, touched: set[Path]) -> _Entry:
    """Of a namespace only the touched folders are looked at, and its list only when one came or went."""
    places = dict(known.places)
    if all(path in places and places[path].folder and _is_agent(path) for path in touched):
        places |= {path: _place(places[path].agent_id, path) for path in touched}
    elif known.path in touched or known.path in places:
        return _entry(known.path)
    else:
        places = {
            path: places[path] if path in places and path not in touched else _place(id, path)
            for id, path in _inside(known.path)
        }
    return _Entry(known.path, known.is_link, places)


def _place(agent_id: str, path: Path) -> _Place:
    if not _is_agent(path):
        return _Place(agent_id, path, None, has_links=path.is_symlink())
    links: list[str] = []
    stats = tuple(sorted(_stats(str(path), "", set(), links)))
    return _Place(agent_id, path, Folder(agent_id, path, stats), has_links=bool(links) or path.is_symlink())


def candidates(root: Path) -> Iterator[tuple[str, Path]]:
    """Every folder that is an agent, or looks like one, with the id that it has."""
    for path in _subfolders(root):
        yield from _inside(path)


def _inside(path: Path) -> Iterator[tuple[str, Path]]:
    if _is_agent(path):
        yield agent_id(DEFAULT_NAMESPACE, path.name), path
        return
    inner = list(_subfolders(path))
    if any(map(_is_agent, inner)):
        yield from ((agent_id(path.name, one.name), one) for one in inner if _looks_like_agent(one))
    elif _looks_like_agent(path):
        yield agent_id(DEFAULT_NAMESPACE, path.name), path


def _judge(found: _Found, place: _Place, allow: Sequence[str], deny: Sequence[str]) -> None:
    id, path = place.agent_id, place.path
    if denial := denial_by_settings(id, path, allow, deny):
        found.problems.append((id, denial))
    elif not place.folder:
        found.problems.append((id, _no_agent_file(path)))
    elif id in found.folders:
        found.problems.append((id, _duplicate(id, path, found.folders[id].path)))
    else:
        found.folders[id] = place.folder


def agent_id(namespace: str, name: str) -> str:
    return "/".join(re.sub(r"[^a-z0-9._-]", "-", part.lower()) for part in (namespace, name))[:_ID_LENGTH]


def _is_agent(path: Path) -> bool:
    return os.path.isfile(f"{path}/{AGENT_FILE}")  # noqa: PTH113  # asked a thousand times a look: twice as fast


def _looks_like_agent(path: Path) -> bool:
    return _is_agent(path) or _has_code(path) or _agent_below(path) is not None


def _agent_below(path: Path, depth: int = _DEEPEST) -> Path | None:
    """A folder with agent.py, in a repository that was dropped in as it is."""
    for one in _subfolders(path) if depth else ():
        if _is_agent(one):
            return one
        if found := _agent_below(one, depth - 1):
            return found
    return None


def _has_code(path: Path) -> bool:
    return any(entry.name.endswith(".py") and entry.name != "__init__.py" for entry in _list(path))


def _subfolders(path: Path) -> Iterator[Path]:
    for entry in _list(path):
        one = path / entry.name
        if _is_entered(one):
            yield one


def _is_entered(path: Path) -> bool:
    return os.path.isdir(path) and not _is_skipped(path.name, path)  # noqa: PTH112  # False for a link to itself


def _is_skipped(name: str, path: Path | str) -> bool:
    return _is_skipped_name(name) or os.path.exists(f"{path}/pyvenv.cfg")  # noqa: PTH110  # as in _is_agent


def _is_skipped_name(name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED_FOLDERS


def never_counts(parts: Sequence[str]) -> bool:
    """Whether nothing that happens at this path, below a discovery folder, makes a new version of an agent."""
    return any(map(_is_skipped_name, parts[:-1])) or bool(_SKIPPED_FILES.search(parts[-1]))


def _list(path: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # unreadable, or gone since its parent was listed: nothing in it serves
        return []


# --- fingerprint and digest ------------------------------------------------------------------------------------------


def fingerprint(path: Path) -> Fingerprint:
    """Changes whenever a file of the folder may have changed. Costs one stat per file."""
    return tuple(sorted(_stats(str(path), "", set(), [])))


def _stats(
    folder: str, prefix: str, above: set[tuple[int, int]], links: list[str]
) -> Iterator[tuple[str, int, int, int]]:
    """Puts the symbolic links that it follows into `links`."""
    for entry in _list(folder):
        try:
            is_folder, status = entry.is_dir(), entry.stat()
        except OSError:  # vanished while we looked, or a broken link
            continue
        if _is_skipped(entry.name, entry.path) if is_folder else _SKIPPED_FILES.search(entry.name):
            continue
        if entry.is_symlink():
            links.append(entry.path)
        if is_folder:
            # A link may lead to a folder that contains it: no folder is entered twice on one way down.
            place = (status.st_dev, status.st_ino)
            if place not in above:
                yield from _stats(entry.path, f"{prefix}{entry.name}/", above | {place}, links)
        else:
            yield f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns, status.st_ino


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


def denial_by_settings(agent_id: str, path: Path, allow: Sequence[str], deny: Sequence[str]) -> Problem | None:
    """Why the two lists of the settings keep a folder out; None when they do not."""
    if deny and (pattern := next((one for one in deny if globs.matches(agent_id, [one])), None)):
        name, why = "GATEWAY_AGENT_DISCOVERY_DENYLIST", f"“{pattern}” of the denylist in the settings keeps it out"
    elif allow and not globs.matches(agent_id, allow):
        name, why = "GATEWAY_AGENT_DISCOVERY_ALLOWLIST", "nothing in the settings' allowlist lets it in"
    else:
        return None
    return denied(agent_id, path, why, f"Change {name} and restart, if it should serve.")


def denied(agent_id: str, path: Path, why: str, remedy: str) -> Problem:
    return problem("denied", f"{agent_id} is not loaded: {why}. None of its code was executed.", remedy, path)


def _no_agent_file(path: Path) -> Problem:
    if below := _agent_below(path):
        return problem(
            "no_agent_file",
            f"{path} contains no {AGENT_FILE}; the one in {below.relative_to(path)}/ lies too deep to be found.",
            f"Move {below.name}/ into the discovery folder, or one level below it; or write an {AGENT_FILE} in "
            f"{path.name}/ that imports the agent.",
            path,
        )
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
