"""Stands for a package that is not installed, and that only a module's program uses: the agent serves without it."""

from types import ModuleType, TracebackType
from typing import Any, Self

from apps.catalog import program


class Absent(ModuleType):
    """Its names can be imported. Calling one raises what importing the package raised; in a dry run it gives nothing.

    A dry run reaches no model: what the program would have asked for or shown does not count.
    """

    def __init__(self, name: str, package: str) -> None:
        super().__init__(name)
        self._package = package

    def __getattr__(self, name: str) -> "Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}", self._package)

    def __call__(self, *_: Any, **__: Any) -> "Nothing":
        running = program.current()
        if running is None or not running.is_answering:
            raise not_installed(self._package)
        return Nothing()


def not_installed(package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {package!r}", name=package)


def is_part_of(agent: Any) -> bool:
    """Whether something that is not there became a model, a tool, or another part of the agent."""
    parts = (part for value in vars(agent).values() for part in (value if isinstance(value, list) else [value]))
    return any(isinstance(part, Absent | Nothing) for part in parts)


class Nothing(str):
    """An empty text, whatever else is done with it."""

    __slots__ = ()

    def __getattr__(self, name: str) -> "Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __await__(self) -> Any:
        yield from ()
        return self
