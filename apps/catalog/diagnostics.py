"""Why a drop-in does not serve as it should, in words that name the place and the remedy.

A Problem is a value; the codes are a contract (docs/diagnostics.md lists every one with its meaning and remedy).
"""

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

from apps.catalog.import_policy import Denied, DeniedImport
from apps.catalog.packages import OutsideImport
from apps.catalog.program import Halt, WouldAsk, WouldRun
from apps.tools.tool import ToolMissing

Severity = Literal["error", "warning"]
Stage = Literal["import", "factory", "dry_run"]

CODES: Mapping[str, Severity] = {
    "denied": "warning",
    "denied_import": "error",
    "dry_run_failed": "error",
    "duplicate_id": "error",
    "exited": "error",
    "factory_failed": "error",
    "hides_sdk": "error",
    "id_taken": "error",
    "import_error": "error",
    "import_timeout": "error",
    "missing_dependency": "error",
    "missing_environment": "error",
    "model_substituted": "warning",
    "model_unlisted": "warning",
    "needs_context": "warning",
    "needs_responses": "error",
    "no_agent_file": "warning",
    "no_discovery_folder": "warning",
    "no_export": "error",
    "no_upstream": "error",
    "not_a_chat_agent": "error",
    "not_approved": "error",
    "own_default_client": "warning",
    "own_model": "warning",
    "pin_failed": "error",
    "pinned_version": "warning",
    "runs_at_import": "error",
    "runs_commands": "warning",
    "sdk_name_missing": "error",
    "several_agents": "warning",
    "stopped_at_import": "warning",
    "syntax_error": "error",
    "tool_missing": "error",
    "tools_missing": "warning",
    "unreadable": "error",
}

# Modules whose package on PyPI has another name.
PACKAGES = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "chatkit": "openai-chatkit",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "discord": "discord.py",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "github": "PyGithub",
    "guardrails": "openai-guardrails",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "MySQLdb": "mysqlclient",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serpapi": "google-search-results",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "telegram": "python-telegram-bot",
    "yaml": "PyYAML",
}
# Top-level names that many packages share; the package is called like the dotted name.
_SHARED_NAMES = {"azure", "google", "opentelemetry"}
_JSON_TYPES = {
    "array": "list",
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "string": "str",
}

_PRIVATE_NAME = re.compile(r"_dropin\.\w+?__g\d+\.?")
_IMPORT_NAME = re.compile(r"cannot import name '(\w+)' from (?:partially initialized module )?'([\w.]+)'")
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
_ASKS_FOR_VARIABLE = re.compile(r"environment|env var|must be set|not set|isn't set|missing|required|not found|provide")


@dataclass(frozen=True, slots=True)
class Problem:
    """`reason` and `remedy` are sentences for the person who wrote the drop-in; `file` is absolute."""

    code: str
    severity: Severity
    reason: str
    remedy: str
    file: str = ""
    line: int | None = None

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


def problem(code: str, reason: str, remedy: str, file: Path | str = "", line: int | None = None) -> Problem:
    return Problem(code, CODES[code], reason, remedy, str(file), line)


def warning(one: Problem) -> Problem:
    """Of what is an error elsewhere, where something serves in spite of it."""
    return replace(one, severity="warning")


_UNDER_MAIN = 'Put what runs the program under `if __name__ == "__main__":`.'
_DEFINE_IT = (
    "Assign the agent at module level (`agent = Agent(...)`), or return it from a function annotated `-> Agent`."
)


def from_exception(error: BaseException, folder: Path, *, stage: Stage = "import") -> Problem:
    """Name what went wrong while the drop-in of `folder` was loaded, and where."""
    explanations = (explain(error, folder) for kind, explain in _EXPLANATIONS if isinstance(error, kind))
    found = next(filter(None, explanations), None)
    if stage == "dry_run" and not (found and found.code.startswith("missing_")):
        return _program_failed(error, folder)
    if found:
        return found
    in_factory = stage == "factory"
    code, what = ("factory_failed", "The factory") if in_factory else ("import_error", "Importing the module")
    return _at(error, folder, code, f"{what} failed: {_text(error)}.", "Mend the line that is named here.")


def timed_out(folder: Path, seconds: float, *, is_dry_run: bool = False) -> Problem:
    if is_dry_run:
        return problem(
            "dry_run_failed",
            f"The module's program was run to find its agent, and came to none within {seconds:g} seconds.",
            _DEFINE_IT,
            folder / "agent.py",
        )
    return problem(
        "import_timeout",
        f"Importing the module took longer than {seconds:g} seconds.",
        'Move what takes long (or waits) out of the import: into a tool, or under `if __name__ == "__main__":`. '
        "If it is a slow library, raise GATEWAY_AGENT_IMPORT_TIMEOUT.",
        folder / "agent.py",
    )


def no_agent_run(folder: Path) -> Problem:
    """A dry run that came to its end."""
    return problem(
        "dry_run_failed",
        "The module's program was run to find its agent, and ended without running one.",
        _DEFINE_IT,
        folder / "agent.py",
    )


def _program_failed(error: BaseException, folder: Path) -> Problem:
    what = f"called exit({error.code!r})" if isinstance(error, SystemExit) else f"failed: {_text(error)}"
    reason = f"The module's program was run to find its agent, and {what} before it ran one."
    return _at(error, folder, "dry_run_failed", reason, f"Mend the line that is named here. {_DEFINE_IT}")


def stopped(error: BaseException, folder: Path) -> Problem:
    """Of a module that had defined an agent before it was stopped."""
    if isinstance(error, SystemExit):
        what = "calls exit()"
    else:
        what = "asks for keyboard input" if isinstance(error, WouldAsk) else "runs its agent"
    return _at(
        error,
        folder,
        "stopped_at_import",
        f"The module {what} while it is imported: it was stopped at this line, and what it defined before serves.",
        _UNDER_MAIN,
    )


# --- what each kind of exception means -------------------------------------------------------------------------------


def _syntax(error: BaseException, folder: Path) -> Problem | None:
    if not isinstance(error, SyntaxError) or not _is_inside(error.filename or "", folder):
        return None  # a broken installed package is an ordinary import error
    column = f", column {error.offset}" if error.offset else ""
    source = f": {error.text.strip()[:200]}" if error.text else ""
    return problem(
        "syntax_error",
        f"{error.msg} (line {error.lineno}{column}){source}",
        "Correct the syntax; the gateway reloads the file when it is saved.",
        error.filename or folder / "agent.py",
        error.lineno,
    )


def _missing_module(error: BaseException, folder: Path) -> Problem | None:
    name = getattr(error, "name", None) or ""
    if not name or name == "agents" or name.startswith("_dropin"):
        return None
    if name.startswith("agents."):
        remedy = (
            "Import it from where the installed openai-agents keeps it, or install the SDK version it was made for."
        )
        return _at(error, folder, "sdk_name_missing", f"The installed Agents SDK has no module {name}.", remedy)
    if "." in name and (version := _installed(name)):
        remedy = "Import what that version has; the gateway's own packages cannot be exchanged."
        return _at(error, folder, "missing_dependency", f"The installed {version} has no module {name}.", remedy)
    own = f" If {name.partition('.')[0]} is your own module, put it in this folder."
    reason = f"The module imports {name}, which is not installed."
    return _at(error, folder, "missing_dependency", reason, _install(package_of(name), folder) + own)


def absent(name: str, file: Path, line: int) -> Problem:
    """Of a package that only the module's program uses."""
    reason = f"The module imports {name}, which is not installed. Its program alone uses it: the agent serves without."
    remedy = f"Nothing need be done. To have it all the same: {_install(package_of(name), file.parent)}"
    return warning(problem("missing_dependency", reason, remedy, file, line))


def _installed(name: str) -> str:
    """The package and version that is there although the module of this dotted name is not; "" without one."""
    package = package_of(name)
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def _install(package: str, folder: Path) -> str:
    if (folder / "requirements.txt").exists():
        return f"Run `manage.py install_agent_deps {folder}`; the folder's requirements.txt should name {package}."
    return (
        f"Run `pip install {package}` in the gateway's environment; or name it in a requirements.txt in this folder "
        f"and run `manage.py install_agent_deps {folder}`."
    )


def denied_import(one: Denied) -> Problem:
    by = "" if one.pattern == one.name else f" by “{one.pattern}”"
    return problem(
        "denied_import",
        f"It imports {one.name}, which the import policy denies{by}.",
        "Remove the import; or take the name off the list in the admin under Module rules, or off "
        "GATEWAY_AGENT_DENIED_IMPORTS where it stands there.",
        one.file,
        one.line,
    )


def _denied_import(error: BaseException, folder: Path) -> Problem | None:  # noqa: ARG001  # all are asked alike
    return denied_import(error.denied) if isinstance(error, DeniedImport) else None


def _outside(error: BaseException, folder: Path) -> Problem:
    name = getattr(error, "name", "")
    return _at(
        error,
        folder,
        "import_error",
        f"The module imports {name}, which lies outside its folder: a relative import ends at {folder.name}/.",
        f"Put the whole package into {folder.name}/ and write `from .` where it says `from ..`.",
    )


def _missing_extra(error: BaseException, folder: Path) -> Problem | None:
    """A library's own "X is required, install it with ..." about an optional dependency."""
    cause = error.__cause__ or error.__context__
    if not isinstance(cause, ModuleNotFoundError):
        return None
    return _at(
        error,
        folder,
        "missing_dependency",
        f"{_text(error)} ({cause}).",
        f"{_install(package_of(cause.name or ''), folder)} Or install what the message says.",
    )


def _missing_name(error: BaseException, folder: Path) -> Problem | None:
    found = _IMPORT_NAME.search(_message(error))
    if not found or found[2].partition(".")[0] != "agents":
        return None
    name, module = found[1], found[2]
    near = difflib.get_close_matches(name, dir(sys.modules.get(module)), n=3)
    hint = f" Near names: {', '.join(near)}." if near else ""
    return _at(
        error,
        folder,
        "sdk_name_missing",
        f"The installed Agents SDK has no name {name} in {module}.{hint}",
        "Use the name that the installed openai-agents has, or install the SDK version that the module was made for.",
    )


def _exit(error: BaseException, folder: Path) -> Problem:
    if isinstance(error, SystemExit):
        said = f"called exit({error.code!r})" if error.code is not None else "called exit()"
    else:
        said = f"raised {type(error).__name__}"
    return _at(
        error,
        folder,
        "exited",
        f"The module {said} while it was imported.",
        _UNDER_MAIN,
    )


def _runs(error: BaseException, folder: Path) -> Problem:
    """Of a module that had nothing to serve when it was stopped."""
    what = "runs an agent" if isinstance(error, WouldRun) else "asks for keyboard input"
    return _at(error, folder, "runs_at_import", f"The module {what} while it is imported.", _UNDER_MAIN)


def _environment(error: BaseException, folder: Path) -> Problem | None:
    name = _missing_variable(error)
    if name is None:
        return None
    return _at(
        error,
        folder,
        "missing_environment",
        f"The module needs the environment variable {name}, which is not set.",
        f"Set {name} in the gateway's environment (or in its .env file) and restart, or give it a default in the code.",
    )


def _unknown_name(error: BaseException, folder: Path) -> Problem | None:
    """Agent Builder writes the types of JSON Schema where Python's belong."""
    name = getattr(error, "name", None)
    if name not in _JSON_TYPES:
        return None
    return _at(
        error,
        folder,
        "import_error",
        f"{_text(error)}: {name} is a type of JSON Schema, not of Python.",
        f"Write `{_JSON_TYPES[name]}` instead.",
    )


def _hidden_by_stdlib(error: BaseException, folder: Path) -> Problem | None:
    """`import profile; profile.mine` with a profile.py beside it: Python has a module of that name."""
    module = getattr(error, "obj", None)
    name = module.__name__ if isinstance(module, ModuleType) else ""
    if name not in sys.stdlib_module_names or not (folder / f"{name}.py").is_file():
        return None
    return _at(
        error,
        folder,
        "import_error",
        f"{_text(error)}; `import {name}` finds Python's own module, not {name}.py of this folder.",
        f"Rename {name}.py, or write `from . import {name}`.",
    )


def _missing_file(error: BaseException, folder: Path) -> Problem | None:
    """A data file beside the code, looked for in the folder where the gateway was started."""
    path = getattr(error, "filename", None)
    if not isinstance(path, str) or Path(path).is_absolute() or not (folder / path).exists():
        return None
    return _at(
        error,
        folder,
        "import_error",
        f"{_text(error)}. It lies in the agent's folder, but the gateway runs in another one.",
        f'Name it from the module\'s own place: `Path(__file__).parent / "{path}"`.',
    )


def _missing_tool(error: BaseException, folder: Path) -> Problem:
    name = getattr(error, "name", "")
    remedy = (
        f"Write a name that is there; or add the tool {name} in the admin under Tools, or switch it on there: then the "
        "agent is loaded."
    )
    return _at(error, folder, "tool_missing", str(error), remedy)


def tools_gone(names: Sequence[str], file: Path) -> Problem:
    """Of tools of the gateway that an agent was loaded with."""
    several = len(names) > 1
    what = f"the tools {', '.join(names)}" if several else f"the tool {names[0]}"
    return warning(
        problem(
            "tool_missing",
            f"It uses {what} of the gateway, which {'are' if several else 'is'} deleted or switched off: a model that "
            "calls it is told to go on without.",
            f"Add {'them' if several else 'it'} in the admin under Tools, or switch {'them' if several else 'it'} on "
            "there; or take it out of the code.",
            file,
        )
    )


def tools_unknown(names: Sequence[str], file: Path) -> Problem:
    """Where there is no gateway that could have them."""
    return warning(
        problem(
            "tool_missing",
            f"It uses tools of the gateway ({', '.join(names)}); here is no gateway's database to look them up in.",
            "Check it where the gateway runs, or see that the gateway has them in the admin under Tools.",
            file,
        )
    )


def _unreadable(error: BaseException, folder: Path) -> Problem | None:
    path = getattr(error, "filename", None)
    if not isinstance(path, str) or not path.endswith(".py") or not _is_inside(path, folder):
        return None
    return problem("unreadable", f"{_text(error)}.", "Let the gateway's user read this file.", path)


_Explain = Callable[[BaseException, Path], "Problem | None"]
# The first that recognises the exception speaks.
_EXPLANATIONS: tuple[tuple[type[BaseException], _Explain], ...] = (
    (SyntaxError, _syntax),
    (OutsideImport, _outside),
    (ModuleNotFoundError, _missing_module),
    (DeniedImport, _denied_import),
    (ImportError, _missing_name),
    (ImportError, _missing_extra),
    (SystemExit, _exit),
    (KeyboardInterrupt, _exit),
    (Halt, _runs),
    (EOFError, _runs),
    (ToolMissing, _missing_tool),
    (NameError, _unknown_name),
    (AttributeError, _hidden_by_stdlib),
    (FileNotFoundError, _missing_file),
    (OSError, _unreadable),
    (Exception, _environment),
)


def package_of(module: str) -> str:
    """The package on PyPI that most likely brings the module: `yaml` -> PyYAML."""
    top = module.partition(".")[0]
    if top in _SHARED_NAMES:
        return "-".join(module.split(".")[:3])
    return PACKAGES.get(top, top.replace("_", "-"))


def _missing_variable(error: BaseException) -> str | None:
    if isinstance(error, KeyError):
        frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        return str(error.args[0]) if frames[-1:] == [type(os.environ).__getitem__.__code__] else None
    if isinstance(error, NameError | AttributeError | TypeError | ImportError):
        return None
    text = _message(error)
    found = _VARIABLE.search(text)
    return found[0] if found and _ASKS_FOR_VARIABLE.search(text.lower()) else None


# --- where -----------------------------------------------------------------------------------------------------------


def _at(error: BaseException, folder: Path, code: str, reason: str, remedy: str) -> Problem:
    file, line = _place(error, folder)
    return problem(code, reason, remedy, file, line)


def _place(error: BaseException, folder: Path) -> tuple[Path | str, int | None]:
    """The deepest frame in the drop-in's own files; library frames below it say nothing to its author."""
    inside = [f for f in traceback.extract_tb(error.__traceback__) if _is_inside(f.filename, folder)]
    return (inside[-1].filename, inside[-1].lineno) if inside else (folder / "agent.py", None)


def _is_inside(filename: str, folder: Path) -> bool:
    return Path(filename).is_relative_to(folder)


def _text(error: BaseException) -> str:
    """The exception in one line, without the private module names that the loader made up."""
    message = _PRIVATE_NAME.sub("", " ".join(_message(error).split()))[:1000].rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the drop-in's own exception class may fail at this too
        return ""
