"""The SDK's own examples as the yardstick: every file dropped in as it is, registered and asked.

The files come from the source distribution of the very openai-agents that requirements.lock names; none of them is
in this repository. `python -m tests.acceptance.sdk_examples` prints the table, for these folders or others:
`python -m tests.acceptance.sdk_examples handoffs tools`.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import openai

from tests.harness import DemoServer, FaultyServer, GatewayServer, Template
from tests.harness.asking import ask_streamed, ask_whole
from tests.harness.processes import ROOT

YARDSTICK = ("agent_patterns", "basic")
QUESTION = "Hello, what can you do for me in Tokyo?"
_PATIENCE = 180  # seconds for pip


class Unavailable(Exception):
    """The source distribution cannot be had here; the message says why."""


@dataclass(frozen=True)
class Pass:
    """One way to serve the examples."""

    title: str
    settings: dict[str, str]
    with_package: bool = False  # `examples` importable, which many of the files expect


@dataclass(frozen=True)
class Outcome:
    """What became of one file. `ids` are the models that it registered; `code` and `reason` say why not, or why one
    of them does not answer.
    """

    name: str
    ids: tuple[str, ...] = ()
    code: str = ""
    reason: str = ""

    @property
    def answers(self) -> bool:
        return bool(self.ids) and not self.code

    def __str__(self) -> str:
        return "answers" if self.answers else f"registers, {self.code}" if self.ids else self.code


DRY_RUN = {"GATEWAY_AGENT_DRY_RUN": "true"}
PASSES = (
    Pass("as it is", {}),
    Pass("as it is, examples package importable", {}, with_package=True),
    Pass("dry run", DRY_RUN),
    Pass("dry run, examples package importable", DRY_RUN, with_package=True),
)


# --- the source distribution -----------------------------------------------------------------------------------------


def source_distribution(cache: Path) -> Path:
    """The unpacked source distribution, fetched with pip once and kept in `cache`. Raises Unavailable."""
    version, hashes = _locked()
    unpacked = cache / f"openai_agents-{version}"
    if not (unpacked / "examples").is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            archive = _download(version, Path(scratch))
            if hashlib.sha256(archive.read_bytes()).hexdigest() not in hashes:
                raise Unavailable(f"{archive.name} is not the file whose hash requirements.lock names")
            with tarfile.open(archive) as tar:
                tar.extractall(cache, filter="data")
    return unpacked


def _locked() -> tuple[str, frozenset[str]]:
    """The version of openai-agents in requirements.lock, and the hashes of its files."""
    lock = (ROOT / "requirements.lock").read_text()
    found = re.search(r"^openai-agents==(\S+)((?:\s*\\\n\s+--hash=sha256:\w+)+)", lock, re.MULTILINE)
    assert found, "requirements.lock names no openai-agents"
    return found[1], frozenset(re.findall(r"sha256:(\w+)", found[2]))


def _download(version: str, folder: Path) -> Path:
    """pip's own index settings decide where it comes from."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "openai-agents"]
    command += ["--dest", str(folder), f"openai-agents=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"pip download took longer than {_PATIENCE} seconds") from None
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or not archives:
        raise Unavailable(f"pip download failed: {done.stderr.strip()[-300:]}")
    return archives[0]


def drop_in(examples: Path, folders: Iterable[str], target: Path) -> list[str]:
    """Each Python file becomes `<target>/<its name>/agent.py`, each program of several files a folder of its own with
    its main.py as agent.py; returns the names.
    """
    names = []
    for folder in folders:
        for file in _programs(examples / folder):
            name = "-".join(file.relative_to(examples).with_suffix("").parts[0 if file.name == "main.py" else 1 :])
            if _has_parts(file):
                shutil.copytree(file.parent, target / name)
            (target / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / name / "agent.py")
            names.append(name)
    return names


def _programs(folder: Path) -> Iterator[Path]:
    """What a person would drop in from this folder and those below it."""
    main = folder / "main.py"
    if _has_parts(main):
        yield main
        return
    yield from (file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py")
    for below in sorted(one for one in folder.iterdir() if one.is_dir()):
        yield from _programs(below)


def _has_parts(main: Path) -> bool:
    """Whether what lies beside a main.py belongs to it."""
    parts = ("manager.py", "server.py", "agents/__init__.py")
    return main.name == "main.py" and main.exists() and any((main.parent / part).exists() for part in parts)


# --- serving and asking ----------------------------------------------------------------------------------------------


def try_examples(source: Path, one: Pass, scratch: Path, template: Template, folders: Sequence[str]) -> list[Outcome]:
    """Serve the examples in this way, and ask each model that they register, whole and streamed."""
    names = drop_in(source / "examples", folders, scratch / "agents")
    settings = {"PYTHONPATH": str(source)} if one.with_package else {}
    with GatewayServer(
        scratch / "data", agents=scratch / "agents", template=template, **one.settings, **settings
    ) as gateway:
        return list(_outcomes(gateway, names))


def _outcomes(gateway: GatewayServer, names: list[str]) -> Iterator[Outcome]:
    client = gateway.openai()
    served = [model.id for model in client.models.list()]
    errors = gateway.with_key("GET", "/admin/agents/errors?severity=error").json()["data"]
    for name in names:
        ids = tuple(id for id in served if _is_of(id, name))
        diagnoses = [(one["code"], one["reason"]) for one in errors if _is_of(one["agent"], name)]
        code, reason = _failure(client, ids) if ids else (diagnoses or [("unknown", "No diagnostic tells why.")])[0]
        yield Outcome(name, ids, code, reason)


def _is_of(id: str, name: str) -> bool:
    """A folder that publishes several agents appends their variables to its id."""
    return id == f"default/{name.lower()}" or id.startswith(f"default/{name.lower()}.")


def _failure(client: openai.OpenAI, ids: Iterable[str]) -> tuple[str, str]:
    """The code and message of the first model that does not answer, whole or streamed."""
    for id in ids:
        for ask in (ask_whole, ask_streamed):
            try:
                told = ask(client, id, QUESTION)
            except openai.APIError as error:
                return str(error.code), error.message
            if not (told.content or told.refusal):
                return "empty", f"{id} answers with nothing"
    return "", ""


# --- the table -------------------------------------------------------------------------------------------------------


def table(title: str, outcomes: Sequence[Outcome]) -> str:
    answering = sum(one.answers for one in outcomes)
    registered = sum(bool(one.ids) for one in outcomes)
    width = max(len(one.name) for one in outcomes)
    lines = [f"{title}: {registered} of {len(outcomes)} register, {answering} answer"]
    for one in outcomes:
        several = f" as {len(one.ids)} models" if len(one.ids) > 1 else ""
        lines.append(f"  {one.name:{width}}  {one}{several}  {one.reason[:140]}".rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("folders", nargs="*", default=YARDSTICK, help="folders below the SDK's examples")
    folders = parser.parse_args().folders
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            source = source_distribution(scratch)
        except Unavailable as error:
            print(f"The SDK's examples cannot be tried: {error}.", file=sys.stderr)
            return 1
        demo = stack.enter_context(DemoServer(scratch / "demo"))
        template = Template.make(scratch / "template", demo, stack.enter_context(FaultyServer()))
        for number, one in enumerate(PASSES):
            outcomes = try_examples(source, one, scratch / str(number), template, folders)
            print(table(one.title, outcomes), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
