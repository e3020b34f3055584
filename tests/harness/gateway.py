"""The gateway as its operators run it: `manage.py serve` on a free port, with a data folder of its own."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import openai

from tests.fakes.faulty_upstream import ENDLESS
from tests.harness import forked
from tests.harness.operators import Operator
from tests.harness.polling import SOON, eventually
from tests.harness.processes import ROOT, ServerProcess, clean_environment
from tests.harness.upstreams import DemoServer, FaultyServer

KEY = "agw_tests_0123456789abcdef0123456789abcdef"
PASSWORD = "a long password for tests"


@dataclass(frozen=True)
class Template:
    """A data folder after the first start, copied for every further gateway: a bootstrap costs two seconds."""

    folder: Path
    demo: DemoServer
    faulty: FaultyServer

    @classmethod
    def make(cls, folder: Path, demo: DemoServer, faulty: FaultyServer) -> "Template":
        environment = gateway_environment(folder)
        run_manage(environment, "bootstrap")
        operator = Operator(environment)
        configure_upstreams(operator, demo, faulty)
        operator._stop()
        return cls(folder, demo, faulty)

    def copy_to(self, folder: Path) -> None:
        shutil.copytree(self.folder, folder)


def configure_upstreams(operator: Operator, demo: DemoServer, faulty: FaultyServer) -> None:
    """The demo over HTTP as the default; the faulty server with patience, so that what is right is right on a machine
    that stalls, and without: `hasty` is for the faults without an end."""
    operator.put_upstream("llm", kind="other", base_url=demo.base_url, default_model="demo", is_default=True)
    operator.put_upstream("faulty", kind="other", base_url=faulty.base_url, first_event_timeout=30, silence_timeout=30)
    operator.put_upstream("hasty", kind="other", base_url=faulty.base_url, first_event_timeout=2.5, silence_timeout=2)
    operator.put_upstream("down", kind="other", base_url="http://127.0.0.1:9/v1", models=["any"])
    operator.only_upstreams(["llm", "faulty", "hasty", "down"])


def upstream_of(fault: str) -> str:
    return "hasty" if fault in ENDLESS else "faulty"


def gateway_environment(folder: Path, **extra: str) -> dict[str, str]:
    return clean_environment(
        **{
            "GATEWAY_DATA_DIR": str(folder),
            "GATEWAY_BOOTSTRAP_API_KEY": KEY,
            "GATEWAY_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
            "GATEWAY_LOG_FORMAT": "json",
            "GATEWAY_UPSTREAM_REFRESH": "0",  # tests say themselves which models an upstream has
            **extra,
        }
    )


def run_manage(environment: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = forked.run(["manage.py", *arguments], folder=ROOT, environment=environment, timeout=100)
    if check and done.returncode:
        raise AssertionError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return done


class GatewayServer(ServerProcess):
    """A gateway over the agents in `agents`. Further settings are its environment: `GATEWAY_WORKERS="2"`."""

    announcement = "Agent Gateway listens on "

    def __init__(self, folder: Path, *, agents: Path | str, template: Template | None = None, **settings: str) -> None:
        if template and not folder.exists():
            template.copy_to(folder)
        self.folder = folder
        self.agents = Path(agents)
        self.key = KEY
        environment = gateway_environment(folder, GATEWAY_AGENT_DISCOVERY_PATH=str(agents), **settings)
        super().__init__(["manage.py", "serve", "--bootstrap", "--port", "0"], environment)
        self.operator = Operator(environment)
        self._clients: dict[tuple[str, int, str], openai.OpenAI] = {}

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def start(self) -> None:
        super().start()
        try:
            eventually(lambda: self.request("GET", "/ready").status, 200, within=20)
        except AssertionError:
            self.stop()
            raise

    def start_again(self) -> None:
        """After `stop`, at the address that it had: whoever was connected finds it."""
        self._arguments[-1] = self.url.rpartition(":")[2]
        self.start()

    def stop(self, *args: Any) -> int:
        code = super().stop(*args)
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self.operator._stop()
        return code

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in the gateway's environment. Costs two seconds: see `operator` for the frequent ones."""
        return run_manage(self._environment, *arguments, check=check)

    def openai(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        """The official client: one for each key and options, which keeps its connection.

        Of several workers each connection reaches one, so there every call has a client of its own.
        """
        options = {"max_retries": 0, "timeout": 30, "api_key": self.key if key is None else key, **options}
        number = len(self._clients) if "GATEWAY_WORKERS" in self._environment else 0
        asked = self.base_url, number, repr(sorted(options.items()))
        if asked not in self._clients:
            self._clients[asked] = openai.OpenAI(base_url=self.base_url, **options)
        return self._clients[asked]

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> "Answer":
        """A bare HTTP request, for what the official client cannot send. Without a key unless `headers` has one."""
        request = urllib.request.Request(f"{self.url}{path}", data=body, method=method, headers=headers or {})
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=60) as response:
                return Answer(response.status, _lower(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _lower(error.headers), error.read())

    def with_key(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> "Answer":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **named}
        return self.request(method, path, body=body, headers=given)

    def log(self, **matching: Any) -> list[dict[str, Any]]:
        """The log lines that have these members, as they stand."""
        return [line for line in _parsed(self.errors) if matching.items() <= line.items()]

    def wait_for_log(self, *, within: float = SOON, **matching: Any) -> dict[str, Any]:
        """The first log line with these members."""
        deadline = time.monotonic() + within
        while not (lines := self.log(**matching)):
            if time.monotonic() > deadline:
                raise AssertionError(f"no log line with {matching} in:\n" + "\n".join(self.errors[-20:]))
            time.sleep(0.03)
        return lines[0]

    def wait_for_run(self, **filters: Any) -> dict[str, Any]:
        """The one Run row that these select, once it has been written."""
        eventually(lambda: self.operator.count_runs(**filters), 1)
        (row,) = self.operator.runs(**filters)
        return dict(row)


@contextmanager
def declared_faults(gateway: GatewayServer, faults: Sequence[str], **fields: Any) -> Iterator[None]:
    """Inside, there is a declared agent `declared/<fault>` for each of them, with these fields."""
    put, listed = gateway.operator, gateway.openai().models.list
    made = [
        put.make(
            "catalog.DeclaredAgent",
            namespace="declared",
            name=fault,
            stage="live",
            model=f"{upstream_of(fault)}/{fault}",
            **fields,
        )
        for fault in faults
    ]
    eventually(lambda: sum(one.id.startswith("declared/") for one in listed()), len(faults), within=20)
    yield
    for id in made:
        put.remove("catalog.DeclaredAgent", id)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object; the body holds nothing else."""
        body = self.json()
        assert list(body) == ["error"]
        error: dict[str, Any] = body["error"]
        return error


def _parsed(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in list(lines) if line.startswith("{")]
