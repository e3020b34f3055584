"""A new agent from the blueprint: a module that works, to be edited."""

import re
from pathlib import Path
from string import Template

from django.conf import settings

from apps.catalog import scan

_BLUEPRINT = Path(__file__).parent / "blueprints" / "agent.py-tpl"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")


class NotWritten(Exception):
    """One sentence with the reason, and what to do."""


def write(name: str, *, namespace: str = "", root: Path | None = None) -> tuple[str, Path]:
    """Write the folder and its agent.py; returns the model id and the folder. Never overwrites. Raises NotWritten."""
    root = (root or settings.GATEWAY_AGENT_DISCOVERY_PATH[0]).absolute()
    folder = root / namespace / name
    _check(name, "name")
    if namespace:
        _check(namespace, "namespace")
    agent_id = scan.agent_id(namespace or scan.DEFAULT_NAMESPACE, name)
    _check_place(folder, root, agent_id)
    text = Template(_BLUEPRINT.read_text()).substitute(title=_title(name), folder=folder)
    try:
        folder.mkdir(parents=True)
        (folder / scan.AGENT_FILE).write_text(text)
    except OSError as error:
        raise NotWritten(f"{folder} cannot be written ({error.strerror}). Give this user access to {root}.") from error
    return agent_id, folder


def _check(name: str, what: str) -> None:
    if not _NAME.fullmatch(name) or scan.never_counts((name, scan.AGENT_FILE)):
        raise NotWritten(
            f"“{name}” is no {what} for an agent: a letter first, then letters, digits, - and _, as in WeatherDesk."
        )


def _check_place(folder: Path, root: Path, agent_id: str) -> None:
    if folder.exists():
        raise NotWritten(f"{folder} exists already. Choose another name, or remove it.")
    if (folder.parent / scan.AGENT_FILE).exists():
        raise NotWritten(f"{folder.parent} is an agent itself, so it can be no namespace. Choose another one.")
    taken = dict(one for known in {root, *settings.GATEWAY_AGENT_DISCOVERY_PATH} for one in scan.candidates(known))
    if agent_id in taken:
        raise NotWritten(f"{taken[agent_id]} has the id {agent_id} already. Choose another name.")


def _title(name: str) -> str:
    """`WeatherDesk`, `weather-desk` and `weather_desk` are “Weather Desk”."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]+", " ", name).split()
    return " ".join(word[:1].upper() + word[1:] for word in words)
