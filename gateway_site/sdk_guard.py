"""Refuse to start when something hides the SDK's package `agents`.

The OpenAI Agents SDK installs a package called `agents`, and our drop-in folder has the same name. Python prefers the
SDK only while our folder stays a namespace directory: one stray `agents/__init__.py` and every
`from agents import Agent` in the process fails far away from its cause.
"""

import importlib.util
from pathlib import Path


def hidden_sdk_problem() -> str | None:
    """One sentence and a remedy when `import agents` would not find the SDK; None when all is well."""
    spec = importlib.util.find_spec("agents")
    if spec is None or spec.origin is None:
        return "The OpenAI Agents SDK is not installed. Run `make install`."
    package = Path(spec.origin).parent
    if (package / "run.py").exists() and (package / "tracing").is_dir():
        return None
    return (
        f"{spec.origin} hides the OpenAI Agents SDK, whose package is called `agents` too. "
        f"Delete that file: the folder of drop-in agents must not be a Python package."
    )


def refuse_hidden_sdk() -> None:
    """Raises SystemExit with the problem of `hidden_sdk_problem`, if there is one."""
    problem = hidden_sdk_problem()
    if problem:
        raise SystemExit(f"Agent Gateway cannot start: {problem}")
