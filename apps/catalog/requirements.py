"""What drop-ins need installed: their requirements.txt, judged against the gateway's own packages, and pip.

All drop-ins share the gateway's environment. What requirements.lock names is never changed: pip gets it as constraints,
and what cannot be had within them is refused with the package that stands in the way.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from django.conf import settings
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

FILE_NAME = "requirements.txt"

_COMMENT = re.compile(r"(^|\s)#.*$")
_OF_PIP = re.compile(r"^(-|\.|/|[\w+.-]+://|\w+\+\w+:)|\.whl$|\.tar\.gz$")  # options, paths and URLs are pip's to read
_PER_LINE_OPTIONS = re.compile(r"\s--?\w.*$")  # --hash=... behind a requirement
_UNREACHABLE = re.compile(r"NewConnectionError|ConnectTimeoutError|ProxyError|NameResolution|Max retries exceeded")
_ABSENT = re.compile(r"No matching distribution found for (\S+)")


class NotInstallable(Exception):
    """One sentence with the reason, and what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """One requirement and where it stands."""

    requirement: Requirement
    file: Path
    number: int

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def applies(self) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate()

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.requirement}"


@dataclass(frozen=True, slots=True)
class Change:
    """What pip would do to one package. `before` is "" when it is not installed."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name} {self.before} -> {self.after}" if self.before else f"{self.name} {self.after}"


def missing(file: Path) -> list[str]:
    """The requirements that the environment does not meet, as they are written. Raises NotInstallable."""
    return [str(one.requirement) for one in lines(file) if one.applies and not _is_met(one.requirement)]


def plan(files: Sequence[Path]) -> list[Change]:
    """What installing these files would change, nothing of the gateway's own. Asks the package index.

    Raises NotInstallable.
    """
    locked = _locked()
    for line in (line for file in files for line in lines(file)):
        _refuse_other_version(line, locked)
    try:
        return _would_install(files, locked)
    except NotInstallable:
        if wrong := _own_packages_changed(files, locked):
            raise NotInstallable(
                f"This would change the gateway's own packages ({', '.join(wrong)}), which it never does. Ask for "
                "versions of the agent's packages that get on with these."
            ) from None
        raise


def install(files: Sequence[Path]) -> None:
    """As planned; running gateways try the agents that failed again. Raises NotInstallable."""
    _pip(files, _locked(), "--quiet")
    for file in files:
        file.touch()  # a failed agent is tried again when a file of its folder is touched


def lines(file: Path) -> Iterator[Line]:
    """Its requirements; options, paths and URLs are pip's to read. Raises NotInstallable."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise NotInstallable(f"{file} cannot be read ({error}). Save it as a text file in UTF-8.") from error
    continued = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = continued + _COMMENT.sub("", raw).strip()
        continued = f"{line[:-1]} " if line.endswith("\\") else ""
        if not line or continued or _OF_PIP.search(line):
            continue
        yield Line(_requirement(_PER_LINE_OPTIONS.sub("", line), file, number), file, number)


def _requirement(text: str, file: Path, number: int) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise NotInstallable(
            f"{file}:{number} is no requirement: {text!r} ({reason}). Write one a line, such as `requests>=2.32`."
        ) from error


def _is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


# --- the gateway's own packages --------------------------------------------------------------------------------------


def _locked() -> dict[str, str]:
    """The versions of requirements.lock that belong into this environment, by canonical name."""
    lock = settings.ROOT / "requirements.lock"
    return {line.name: next(iter(line.requirement.specifier)).version for line in lines(lock) if line.applies}


def _refuse_other_version(line: Line, locked: dict[str, str]) -> None:
    version = locked.get(line.name)
    if version is None or not line.applies or line.requirement.specifier.contains(version, prereleases=True):
        return
    raise NotInstallable(
        f"{line.file}:{line.number} wants {line.requirement}, but the gateway itself runs on {line.name} {version}, "
        "which it never changes. Loosen this line, or leave it out: the gateway brings the package."
    )


def _own_packages_changed(files: Sequence[Path], locked: dict[str, str]) -> list[str]:
    """What pip would change of the gateway's own if it might; nothing when it fails for another reason."""
    try:
        changes = _would_install(files, {})
    except NotInstallable:
        return []
    return [
        f"{one.name} {one.after} instead of {locked[one.name]}"
        for one in changes
        if one.name in locked and Version(one.after) != Version(locked[one.name])
    ]


# --- pip -------------------------------------------------------------------------------------------------------------


def _would_install(files: Sequence[Path], locked: dict[str, str]) -> list[Change]:
    told = json.loads(_pip(files, locked, "--quiet", "--dry-run", "--report", "-"))
    packages = (one["metadata"] for one in told["install"])
    return sorted((_change(one["name"], one["version"]) for one in packages), key=str)


def _change(name: str, version: str) -> Change:
    try:
        before = metadata.version(name)
    except metadata.PackageNotFoundError:
        before = ""
    return Change(canonicalize_name(name), before, version)


def _pip(files: Sequence[Path], locked: dict[str, str], *options: str) -> str:
    """What `pip install` of these files writes. `locked` are its constraints. Raises NotInstallable."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("".join(f"{name}=={version}\n" for name, version in locked.items()))
        constraints.flush()
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries=1"]
        command += [*options, "-c", constraints.name, *(f"--requirement={file}" for file in files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=files[0].parent)  # noqa: S603
    if done.returncode:
        raise NotInstallable(_reason(done.stderr))
    return done.stdout


def _reason(said: str) -> str:
    """What pip wrote when it failed, in one sentence."""
    if "No module named pip" in said:
        return f"{sys.executable} has no pip. Install it: `{sys.executable} -m ensurepip`."
    if _UNREACHABLE.search(said):
        return "The package index cannot be reached. Look at this machine's network, or at pip's settings."
    if absent := _ABSENT.search(said):
        return f"The package index has no {absent[1]} for this Python. Correct its name or version."
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return f"pip failed: {' '.join(errors[:2]) or said.strip()[-300:] or 'it does not say why'}"
