"""The processes of a benchmark. Each is started on a free loopback port, and ended whatever happens."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from tests.bench.clock import cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
KEY = "agw_bench_b6e1c9d2f4a80735"
AGENT = "default/bench"
DECLARED = "default/declared"
LITELLM_KEY, LITELLM_MODEL = "sk-bench", "bench"
LITELLM = os.environ.get("BENCH_LITELLM", "")  # an interpreter with litellm[proxy]; without it there is no such column

_START_PATIENCE = 120.0  # seconds: a first start migrates the database
_ORDER_PATIENCE = 300.0  # seconds for one batch
_END_PATIENCE = 10.0
_MANAGE = str(ROOT / "manage.py")
_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")


class BenchFailed(Exception):
    """Something did not run; the message says what, and what it said last."""


class Child:
    """A process that says when it is ready and is ended with the `async with` block. `log` gets its standard error."""

    def __init__(
        self, name: str, arguments: list[str], *, ready: re.Pattern[str], folder: Path, python: str = sys.executable,
        **env: str,
    ) -> None:  # fmt: skip
        self.name = name
        self._python = python
        self.said: list[str] = []
        self._arguments = arguments
        self._ready = ready
        self._log = folder / f"{name}.log"
        self._env = _environment(folder) | env

    async def __aenter__(self) -> Self:
        self.began = perf_counter()
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C reaches this program alone, which then ends the others in order.
            self._process = await asyncio.create_subprocess_exec(
                self._python, *self._arguments, cwd=ROOT, env=self._env, start_new_session=True,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 20,
            )  # fmt: skip
        try:
            self.ready = await self._until_ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        return int(self.ready[1])

    async def order(self, **order: Any) -> dict[str, float]:
        """What a helper (load, bare) answers to an order."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._line(_ORDER_PATIENCE)
        result: dict[str, float] = json.loads(line)
        return result

    async def cpu_at_rest(self, seconds: float) -> float:
        """CPU in ms that it takes a second when nobody asks for anything."""
        before = cpu_seconds(self.pid)
        await asyncio.sleep(seconds)
        return (cpu_seconds(self.pid) - before) * 1000 / seconds

    async def _until_ready(self) -> re.Match[str]:
        while True:
            line = await self._line(_START_PATIENCE)
            self.said.append(line)
            if found := self._ready.search(line):
                return found

    async def _line(self, patience: float) -> str:
        assert self._process.stdout
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), patience)
        except TimeoutError:
            raise BenchFailed(f"{self.name} said nothing for {patience:g} s.{self._last_words()}") from None
        if not line:
            raise BenchFailed(f"{self.name} has ended.{self._last_words()}")
        return line.decode()

    def _last_words(self) -> str:
        tail = self._log.read_text(errors="replace").splitlines()[-15:]
        return "\n  ".join(["", *tail]) if tail else ""

    async def _end(self) -> None:
        for end in (self._process.terminate, self._process.kill):
            with suppress(ProcessLookupError):
                end()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.communicate(), _END_PATIENCE)
                return


def _environment(folder: Path) -> dict[str, str]:
    """This process's own, without what would make the gateway another one than a fresh installation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "OPENAI_", "DJANGO"))}
    return kept | {
        "GATEWAY_DATA_DIR": str(folder / "data"),
        "DATABASE_URL": f"sqlite:///{folder / 'data' / 'gateway.sqlite3'}",
        "PYTHONUNBUFFERED": "1",
    }


def upstream(folder: Path) -> Child:
    arguments = [_MANAGE, "demo_upstream", "--port", "0", "--delay", "0"]
    return Child("upstream", arguments, ready=_URL, folder=folder)


def floor(folder: Path) -> Child:
    return Child("floor", ["-m", "tests.bench.floor"], ready=_URL, folder=folder)


def proxy(upstream_port: int, folder: Path) -> Child:
    """What passes requests on and does nothing else."""
    arguments = ["-m", "tests.bench.proxy", f"http://127.0.0.1:{upstream_port}/v1"]
    return Child("proxy", arguments, ready=_URL, folder=folder)


def litellm(upstream_port: int, folder: Path, *equipped: str) -> Child:
    script = str(ROOT / "tests" / "bench" / "litellm_proxy.py")
    arguments = [script, f"http://127.0.0.1:{upstream_port}/v1", LITELLM_KEY, LITELLM_MODEL, *equipped]
    return Child("-".join(["litellm", *equipped]), arguments, ready=_URL, folder=folder, python=LITELLM)


def load(folder: Path) -> Child:
    return Child("load", ["-m", "tests.bench.load"], ready=re.compile("ready"), folder=folder)


def bare(client: str, upstream_port: int, folder: Path) -> Child:
    arguments = ["-m", "tests.bench.bare", client, f"http://127.0.0.1:{upstream_port}/v1"]
    return Child(f"bare-{client}", arguments, ready=re.compile("ready"), folder=folder)


def gateway(upstream_port: int, folder: Path, *, name: str = "gateway") -> Child:
    """`manage.py serve --bootstrap` with default settings; its log goes to a file."""
    return Child(
        name,
        [_MANAGE, "serve", "--bootstrap", "--port", "0"],
        ready=re.compile(r"listens on http://127\.0\.0\.1:(\d+)"),
        folder=folder,
        **_of_gateway(upstream_port),
    )


async def offers(upstream_port: int, folder: Path) -> str:
    """Sets up, in the data folder, what is asked besides the modules; the id of the upstream's own model."""
    ready = re.compile(r"offers (\S+)")
    async with Child(
        "offers", ["-m", "tests.bench.offers"], ready=ready, folder=folder, **_of_gateway(upstream_port)
    ) as one:
        return one.ready[1]


@asynccontextmanager
async def crowded(upstream_port: int, folder: Path, keys: int, rules: int) -> AsyncIterator[Child]:
    """A gateway of its own with so many keys and rules."""
    own = folder / f"crowded-{keys}"
    own.mkdir()
    settings = _of_gateway(upstream_port)
    filled = re.compile(r"filled")
    async with Child(
        f"crowd-{keys}", ["-m", "tests.bench.crowd", str(keys), str(rules)], ready=filled, folder=own, **settings
    ):
        pass
    async with gateway(upstream_port, own, name=f"crowded-{keys}") as server:
        yield server


def _of_gateway(upstream_port: int) -> dict[str, str]:
    return {
        "GATEWAY_AGENT_DISCOVERY_PATH": str(ROOT / "tests" / "bench" / "agents"),
        "GATEWAY_BOOTSTRAP_API_KEY": KEY,
        "GATEWAY_WORKERS": "1",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        "OPENAI_API_KEY": "bench",
    }
