"""Drop-ins as private Python packages: `_dropin.<namespace>__<name>__g<N>`, one per loaded version.

The private name keeps two drop-ins with a `tools.py` each apart, two versions of one drop-in apart, and everything out
of the names that `import` sees elsewhere. Relative imports and sub-packages work by themselves; `import tools` is led
to the file beside the module by an `__import__` of the package's own.
"""

import builtins
import importlib
import importlib.util
import itertools
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "_dropin"

# A drop-in folder never stands in for these, whatever it contains.
_RESERVED = frozenset(sys.stdlib_module_names) | {"agents", "openai"}

_numbers = itertools.count(1)
_lock = threading.RLock()
_packages: dict[str, "Package"] = {}


class Package:
    """One version of a drop-in. Its modules are in sys.modules for as long as somebody retains it."""

    def __init__(self, agent_id: str, folder: Path) -> None:
        self.number = next(_numbers)
        self.name = f"{PREFIX}.{re.sub(r'[^a-z0-9_]', '_', agent_id.replace('/', '__'))}__g{self.number}"
        self.folder = folder
        self._retained = 0
        self._modules: dict[str, ModuleType] = {}
        self._is_sibling: dict[str, bool] = {}

    def import_module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.name}.{name}")

    @property
    def modules(self) -> dict[str, ModuleType]:
        """Those imported so far, by their full names."""
        inside = f"{self.name}."
        return {name: module for name, module in list(sys.modules.items()) if f"{name}.".startswith(inside)}

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

    def _enter(self) -> None:
        _prepare()
        _packages[self.name] = self
        # Filled when a run begins on a version that was retired a moment before: it gets its modules back.
        sys.modules.update(self._modules)

    def _leave(self) -> None:
        self._modules = self.modules
        for name in self._modules:
            sys.modules.pop(name, None)
        _packages.pop(self.name, None)
        # Importing a sub-module binds it in its parent; that reference would keep every version alive.
        vars(sys.modules[PREFIX]).pop(self.name.rpartition(".")[2], None)

    @cached_property
    def builtins(self) -> dict[str, Any]:
        return {**vars(builtins), "__import__": self._import}

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The `import` statement of this package's modules (lazy ones inside functions too)."""
        top = name.partition(".")[0]
        if level or not self._has_sibling(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        private = f"{self.name}.{name}"
        if fromlist:
            return builtins.__import__(private, globals, locals, fromlist, 0)
        importlib.import_module(private)
        return sys.modules[f"{self.name}.{top}"]

    def _has_sibling(self, top: str) -> bool:
        if top not in self._is_sibling:
            self._is_sibling[top] = top not in _RESERVED and self._finds(top)
        return self._is_sibling[top]

    def _finds(self, top: str) -> bool:
        beside = self.folder / top
        if beside.with_name(f"{top}.py").is_file() or (beside / "__init__.py").is_file():
            return True
        # A folder without __init__.py gives way to an installed package, as it does everywhere in Python.
        return beside.is_dir() and any(beside.rglob("*.py")) and importlib.util.find_spec(top) is None

    def find_spec(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        if fullname == self.name:
            return self._root_spec()
        for folder in path or ():
            if spec := FileFinder(folder, *self._loaders).find_spec(fullname):
                return spec
        return None

    def _root_spec(self) -> ModuleSpec:
        init = self.folder / "__init__.py"
        if init.is_file():
            loader = _SourceLoader(self, self.name, str(init))
            spec = importlib.util.spec_from_file_location(self.name, init, loader=loader)
            assert spec is not None
        else:
            spec = ModuleSpec(self.name, None, is_package=True)
        spec.submodule_search_locations = [str(self.folder)]
        return spec

    @property
    def _loaders(self) -> list[tuple[Any, list[str]]]:  # callables; the stubs know classes only
        return [(ExtensionFileLoader, EXTENSION_SUFFIXES), (partial(_SourceLoader, self), SOURCE_SUFFIXES)]


class _SourceLoader(SourceFileLoader):
    """Neither reads nor writes .pyc files: their check by time and size misses an edit within the same second."""

    def __init__(self, package: Package, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._package = package

    def path_stats(self, path: str) -> Mapping[str, Any]:  # noqa: ARG002  # importlib's signature
        raise OSError  # "no stats" is importlib's way to say that this source has no cache

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._package.builtins
        super().exec_module(module)


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
