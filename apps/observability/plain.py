"""Any value as one that JSON, a database and a terminal take: cut, flat enough, and without raising anything."""

import traceback
from collections.abc import Mapping
from typing import Any, Final

LONGEST: Final = 4_000  # characters of a text
_MOST: Final = 50  # members of a collection
_DEEPEST: Final = 4
_CUT: Final = "… ({} more characters)"


def cut(text: str, longest: int = LONGEST) -> str:
    """What is left out is said."""
    return text if len(text) <= longest else text[:longest] + _CUT.format(len(text) - longest)


def plain(value: Any, *, longest: int = LONGEST, depth: int = 0) -> Any:
    """Half surrogate pairs become ?, NUL goes; what JSON does not know becomes its repr."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else cut(str(value) if abs(value) < 2**4000 else hex(value), longest)
    if isinstance(value, str):
        return text(value, longest)
    if depth < _DEEPEST and isinstance(value, Mapping | list | tuple | set | frozenset):
        return _collection(value, longest, depth + 1)
    return text(_shown(value), longest)


def text(value: str, longest: int = LONGEST) -> str:
    """As `plain` has it. A subclass of str becomes one."""
    return str.encode(cut(str.__str__(value), longest), errors="replace").decode().replace("\0", "")


def _collection(value: Any, longest: int, depth: int) -> Any:
    try:
        size = len(value)
        if isinstance(value, Mapping):
            items = [item for item, _ in zip(value.items(), range(_MOST), strict=False)]
            shown = {text(str(name), 200): plain(one, longest=longest, depth=depth) for name, one in items}
            return shown | ({"…": f"{size - _MOST} more"} if size > _MOST else {})
        some = [plain(one, longest=longest, depth=depth) for one, _ in zip(value, range(_MOST), strict=False)]
        return some + ([f"… ({size - _MOST} more)"] if size > _MOST else [])
    except Exception:  # noqa: BLE001  # collections of modules may raise whatever they like
        return text(_shown(value), longest)


def _shown(value: Any) -> str:
    try:
        return str.__str__(repr(value))
    except Exception:  # noqa: BLE001  # the repr of whatever a module made, nested without end included
        return f"<{type(value).__name__} that cannot be shown>"


def said(error: BaseException) -> str:
    """What an exception says of itself, which a module's may refuse to."""
    try:
        return text(f"{type(error).__name__}: {error}".removesuffix(": "))
    except Exception:  # noqa: BLE001  # as above
        return type(error).__name__


def traceback_text(error: BaseException, *, longest: int) -> str:
    """As Python prints it, with causes and without local variables; of a long one the beginning and the end."""
    try:
        whole = "".join(traceback.TracebackException.from_exception(error, limit=-60, compact=True).format())
    except Exception:  # noqa: BLE001  # it reads source files and asks the exception, either of which may fail
        return said(error)
    half = longest // 2
    return whole if len(whole) <= longest else f"{whole[:half]}\n…\n{whole[-half:]}"
