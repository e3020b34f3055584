"""Drop-ins as private Python packages: `_dropin.<namespace>__<name>__g<N>`, one per loaded version.

The private name keeps two drop-ins with a `tools.py` each apart, two versions of one drop-in apart, and everything out
of the names that `import` sees elsewhere. Relative imports and sub-packages work by themselves; `import tools` is led
to the file beside the module by an `__import__` of the package's own, `importlib.import_module("tools")` by a view of
importlib.

A package looks for its modules in its roots: its own folder, `src/` in it, and what it adds to sys.path within the
discovery folder. All of these are private to it.
"""

import builtins
import importlib
import importlib.util
import itertools
import logging
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial, wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.resources.abc import TraversableResources
from importlib.resources.readers import MultiplexedPath
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from django.conf import settings

from apps.catalog import apart, import_policy, program
from apps.catalog.absent import Absent

PREFIX = "_dropin"

# A drop-in folder never stands in for these, whatever it contains.
_RESERVED = frozenset({"agents", "openai"})
# What imports by name in the standard library: a module, and its functions whose first argument is such a name.
_BY_NAME: Mapping[str, frozenset[str]] = {
    "importlib": frozenset({"import_module"}),
    "importlib.util": frozenset({"find_spec"}),
    "importlib.resources": frozenset({"files", "open_binary", "open_text", "path", "read_binary", "read_text"}),
    "pkgutil": frozenset({"get_data"}),
}

_numbers = itertools.count(1)
_lock = threading.RLock()
_packages: dict[str, "Package"] = {}
_lent: Counter[str] = Counter()  # entries of sys.path, by the packages that need them


class Package:
    """One version of a drop-in. Its modules are in sys.modules for as long as somebody retains it."""

    def __init__(self, agent_id: str, folder: Path, denied_imports: tuple[str, ...] = ()) -> None:
        self.number = next(_numbers)
        self.agent_id = agent_id
        self.name = f"{PREFIX}.{re.sub(r'[^a-z0-9_]', '_', agent_id.replace('/', '__'))}__g{self.number}"
        self.folder = folder
        self.denied_imports = denied_imports  # for what is compiled from now on
        self.roots = [str(folder), *_source_root(folder)]
        self.ended_by: BaseException | None = None  # what ended agent.py before its last line
        self.absent: dict[str, int] = {}  # packages that only its program would use, and where it imports them
        self._namespace = None if agent_id.startswith("default/") else folder.parent
        self._usual_path: frozenset[str] | None = None  # sys.path as it was before; None unless it is being loaded
        self._outside: list[str] = []  # what it added to sys.path outside the discovery folder
        self._retained = 0
        self._on_leave: set[Callable[[str], None]] = set()
        self._modules: dict[str, ModuleType] = {}
        self._located: dict[str, str | None] = {}

    def import_module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.name}.{name}")

    @property
    def module_path(self) -> str:
        """Of the file that it is loaded from."""
        return str(self.folder / "agent.py")

    @property
    def modules(self) -> dict[str, ModuleType]:
        """Those imported so far, by their full names."""
        inside = f"{self.name}."
        modules = list(sys.modules.items())
        return {name: module for name, module in modules if name == self.name or name.startswith(inside)}

    def retain(self) -> None:
        with _lock:
            self._retained += 1
            if self._retained == 1:
                self._enter()

    def release(self) -> None:
        with _lock:
            self._retained -= 1
            if self._retained == 0:
                self._leave()

    @contextmanager
    def retained(self) -> Iterator[None]:
        self.retain()
        try:
            yield
        finally:
            self.release()

    def on_leave(self, callback: Callable[[str], None]) -> None:
        """Call it with the package's name when the last one has let go, in the thread where that happens.

        It may happen again: a run that begins on a version retired a moment before retains it anew.
        """
        self._on_leave.add(callback)

    def _enter(self) -> None:
        _prepare()
        _packages[self.name] = self
        # Filled when a run begins on a version that was retired a moment before: it gets its modules back.
        sys.modules.update(self._modules)
        self._lend_path()

    def _leave(self) -> None:
        self._take_path_back()
        self._modules = self.modules
        for name in self._modules:
            sys.modules.pop(name, None)
        _packages.pop(self.name, None)
        # Importing a sub-module binds it in its parent; that reference would keep every version alive.
        vars(sys.modules[PREFIX]).pop(self.name.rpartition(".")[2], None)
        _forget_loggers(self.name)
        for callback in self._on_leave:
            callback(self.name)

    # --- where it looks for modules ----------------------------------------------------------------------------------

    @contextmanager
    def loading(self) -> Iterator[None]:
        """What is added to sys.path inside is for this package's imports, now and later."""
        self._usual_path = frozenset(sys.path)
        try:
            yield
        finally:
            self._adopt_path()
            self._usual_path = None

    def keep_path(self) -> None:
        """Call after loading: folders outside the discovery folder stay at the end of sys.path while it is retained."""
        with _lock:
            self._lend_path()

    def _lend_path(self) -> None:
        _lent.update(self._outside)
        sys.path += [entry for entry in self._outside if entry not in sys.path]

    def _take_path_back(self) -> None:
        _lent.subtract(self._outside)
        for entry in self._outside:
            if not _lent[entry] and entry in sys.path:
                sys.path.remove(entry)

    def _adopt_path(self) -> None:
        """Take over what was added to sys.path: before the own folder what was put first there, the rest behind it."""
        if self._usual_path is None or self._usual_path.issuperset(sys.path):
            return
        front: list[str] = []
        back: list[str] = []
        added = front
        for entry in sys.path:
            if entry in self._usual_path:
                added = back
            elif Path(path := os.path.normpath(self.folder / entry)).is_dir():
                added.append(path)
        if {*front, *back} <= {*self.roots, *self._outside}:
            return
        self._outside = [path for path in (*front, *back) if not self._is_private(path)]
        own = [path for path in self.roots if path not in front]
        self.roots[:] = dict.fromkeys(path for path in (*front, *own, *back) if self._is_private(path))
        self._located.clear()

    def _is_private(self, path: str) -> bool:
        """Code in the discovery folder belongs to the drop-in that imports it, code elsewhere to the process."""
        homes = (root for root in settings.GATEWAY_AGENT_DISCOVERY_PATH if self.folder.is_relative_to(root))
        return Path(path).is_relative_to(next(homes, self.folder.parent))

    # --- import statements -------------------------------------------------------------------------------------------

    @cached_property
    def builtins(self) -> dict[str, Any]:
        return {**vars(builtins), "__import__": self._import, "input": program.ask}

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The `import` statement of this package's modules (lazy ones inside functions too)."""
        if level and globals:
            _check_inside(name, level, str(globals.get("__package__") or self.name))
        private = None if level else self.private_name(name, fromlist or ())
        if private is None:
            try:
                return self.view(builtins.__import__(name, globals, locals, fromlist or (), level))
            except ModuleNotFoundError as error:
                # At module level its variables are both.
                importer = globals.get("__name__") if globals is not None and globals is locals else None
                absent = importer == f"{self.name}.agent" and self._absent(name, fromlist or (), error.name)
                if not absent:
                    raise
                return absent
        if fromlist:
            return builtins.__import__(private, globals, locals, fromlist, 0)
        importlib.import_module(private)
        _, dot, rest = name.partition(".")
        return sys.modules[private.removesuffix(dot + rest)]

    def _absent(self, name: str, fromlist: Sequence[str], missing: str | None) -> Absent | None:
        """For agent.py, when it imports the module for its program alone and nothing of the package is there."""
        file = self.folder / "agent.py"
        lines = apart.modules_for_program(file.read_bytes(), str(file))
        top = name.partition(".")[0]
        if missing != top or name not in lines:
            return None
        self.absent.setdefault(top, lines[name])
        return Absent(name if fromlist else top, top)

    def private_name(self, name: str, fromlist: Sequence[str] = ()) -> str | None:
        """The full name of the package's own module that `name` means; None when it means another one."""
        top, dot, rest = name.partition(".")
        self._adopt_path()
        if top not in self._located:
            self._located[top] = self._locate(top)
        found = self._located[top]
        if found is None or (top in sys.stdlib_module_names and _offers(name, fromlist)):
            return None
        return found + dot + rest

    def view(self, module: ModuleType) -> ModuleType:
        """The module as this package's modules see it."""
        return _View(module, self) if getattr(module, "__name__", "") in _BY_NAME else module

    def _locate(self, top: str) -> str | None:
        private = f"{self.name}.{top}"
        if top in _RESERVED:
            return None
        if any(_is_module(root, top) for root in self.roots):
            return private
        if _is_installed(top):  # a folder without __init__.py gives way to it, as it does everywhere in Python
            return None
        if any(_is_loose_package(root, top) for root in self.roots):
            return private
        if top == self.folder.name:  # `from Weather.tools import x`: as if it ran beside its folder
            return self.name
        return private if self._shares(top) else None

    def _shares(self, top: str) -> bool:
        """Whether it lies beside the agents of the namespace, which may be a repository."""
        beside = str(self._namespace) if self._namespace else None
        if beside is None or not (_is_module(beside, top) or _is_loose_package(beside, top)):
            return False
        self.roots.append(beside)
        return True

    def find_spec(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        if fullname == self.name:
            return self._root_spec()
        portions: list[str] = []
        for folder in path or ():
            spec = FileFinder(folder, *self._loaders).find_spec(fullname)
            if spec and spec.loader:
                return spec
            portions += (spec and spec.submodule_search_locations) or ()
        return _loose_spec(fullname, portions) if portions else None

    def _root_spec(self) -> ModuleSpec:
        init = self.folder / "__init__.py"
        if init.is_file():
            loader = _SourceLoader(self, self.name, str(init))
            spec = importlib.util.spec_from_file_location(self.name, init, loader=loader)
            assert spec is not None
            spec.submodule_search_locations = self.roots
            return spec
        return _loose_spec(self.name, self.roots)

    @property
    def _loaders(self) -> list[tuple[Any, list[str]]]:  # callables; the stubs know classes only
        return [(ExtensionFileLoader, EXTENSION_SUFFIXES), (partial(_SourceLoader, self), SOURCE_SUFFIXES)]


def _forget_loggers(package: str) -> None:
    """logging remembers every logger for ever, by its name and in the one above; modules name theirs after themselves.

    Who still has one may use it: it stays attached to the root logger.
    """
    known = logging.getLogger().manager.loggerDict
    above = known.get(PREFIX)
    for name in [one for one in list(known) if one == package or one.startswith(f"{package}.")]:
        logger = known.pop(name)
        if isinstance(above, logging.PlaceHolder) and isinstance(logger, logging.Logger):
            above.loggerMap.pop(logger, None)


def find(name: str) -> Package | None:
    """The package of this name, as long as somebody retains it."""
    return _packages.get(name)


def facts_of_logger(name: str) -> Mapping[str, str]:
    """What log lines say of whose they are, when their logger is named after a drop-in's module."""
    package = find(".".join(name.split(".", 2)[:2])) if name.startswith(f"{PREFIX}.") else None
    return {"agent": package.agent_id, "module_path": package.module_path} if package else {}


class OutsideImport(ImportError):
    """A relative import that leads out of the drop-in's folder."""


def _check_inside(name: str, level: int, package: str) -> None:
    """The packages of all drop-ins lie side by side: one step too far up, and there are others' modules."""
    is_inside = package.startswith(f"{PREFIX}.") and package.count(".") - (level - 1) >= 1
    if not is_inside:
        raise OutsideImport(f"{'.' * level}{name} lies outside the agent's folder", name=f"{'.' * level}{name}")


class _SourceLoader(SourceFileLoader):
    """Neither reads nor writes .pyc files: their check by time and size misses an edit within the same second."""

    def __init__(self, package: Package, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._package = package

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def source_to_code(self, data: Any, path: Any = "<string>", **_: Any) -> CodeType:  # type: ignore[override]  # a static method in the stubs alone
        """Refuses what is denied here too: a file may have changed since the folder was looked through, or lie outside.

        Raises DeniedImport.
        """
        patterns = self._package.denied_imports
        if patterns and (found := import_policy.denied_in(data, path, patterns)):
            raise import_policy.DeniedImport(found[0])
        return apart.code(data, path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._package.builtins
        try:
            super().exec_module(module)
        except BaseException as error:
            if module.__name__ != f"{self._package.name}.agent" or not program.is_ended_by(error):
                raise
            self._package.ended_by = error


class _LooseLoader(Loader):
    """Of packages without __init__.py: nothing to execute. Python's own wants a path of a private class."""

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders

    def create_module(self, spec: ModuleSpec) -> None:  # noqa: ARG002  # importlib's signature
        return None

    def exec_module(self, module: ModuleType) -> None:
        pass

    def get_resource_reader(self, fullname: str) -> TraversableResources:  # noqa: ARG002  # importlib's signature
        return _Resources(self._folders)


class _Resources(TraversableResources):
    def __init__(self, folders: list[str]) -> None:
        self._folders = folders

    def files(self) -> MultiplexedPath:
        return MultiplexedPath(*map(Path, self._folders))


def _loose_spec(name: str, folders: list[str]) -> ModuleSpec:
    spec = ModuleSpec(name, _LooseLoader(folders), is_package=True)
    spec.submodule_search_locations = folders
    return spec


class _View(ModuleType):
    """A module of the standard library, as a drop-in sees it: its own modules' names mean its own modules."""

    def __init__(self, module: ModuleType, package: Package) -> None:
        super().__init__(module.__name__, module.__doc__)
        vars(self).update(__spec__=module.__spec__, _module=module, _package=package)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if isinstance(value, ModuleType):
            return self._package.view(value)
        return self._by_name(value) if name in _BY_NAME[self._module.__name__] else value

    def _by_name(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(name: Any, *args: Any, **kwargs: Any) -> Any:
            is_absolute = isinstance(name, str) and name[:1] not in ("", ".")
            private = self._package.private_name(name) if is_absolute else None
            return function(private or name, *args, **kwargs)

        return call


def _source_root(folder: Path) -> Iterator[str]:
    """`src/` of a repository that would be installed: what lies in it is imported by its own name."""
    source = f"{folder}/src"
    if os.path.isdir(source) and not os.path.exists(f"{source}/__init__.py"):  # noqa: PTH110, PTH112  # at every load
        yield source


def _is_module(root: str, top: str) -> bool:
    return Path(root, f"{top}.py").is_file() or Path(root, top, "__init__.py").is_file()


def _is_loose_package(root: str, top: str) -> bool:
    folder = Path(root, top)
    return folder.is_dir() and any(folder.rglob("*.py"))


def _is_installed(top: str) -> bool:
    """Whether Python itself finds a module of this name; the gateway's own do not count."""
    if top in sys.modules:
        origin = getattr(sys.modules[top], "__file__", "built-in")
    else:
        spec = importlib.util.find_spec(top)
        origin = spec.origin if spec else None
    if origin is None:  # nothing, or a folder without __init__.py somewhere
        return False
    return not Path(origin).is_relative_to(settings.ROOT) or "site-packages" in Path(origin).parts


def _offers(name: str, fromlist: Sequence[str]) -> bool:
    """Whether the standard library's module has what is imported: `from code import build_agent` means another."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return False
    return all(one == "*" or hasattr(module, one) for one in fromlist)


class _Finder(MetaPathFinder):
    """Answers for names under the prefix only."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002  # importlib's signature
    ) -> ModuleSpec | None:
        package = _packages.get(".".join(fullname.split(".", 2)[:2]))
        return package.find_spec(fullname, path) if package else None


_finder = _Finder()


def _prepare() -> None:
    if PREFIX not in sys.modules:
        parent = ModuleType(PREFIX, "The packages of the drop-ins.")
        parent.__path__ = []
        sys.modules[PREFIX] = parent
    if _finder not in sys.meta_path:
        # First, because the ordinary path finder would also find the files, and write bytecode.
        sys.meta_path.insert(0, _finder)
