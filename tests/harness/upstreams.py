"""The LLM servers of the tests, over real HTTP, each with a count of what goes on: /stats."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.harness.polling import SOON, eventually
from tests.harness.processes import ServerProcess, clean_environment


class LLMServer(ServerProcess):
    """An upstream that tells {active, started, finished, cancelled, requests}."""

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def read(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as response:
            return json.load(response)

    def stats(self) -> dict[str, int]:
        stats: dict[str, int] = self.read("/stats")
        return stats

    def active(self) -> int:
        """How many answers are under way."""
        return self.stats()["active"]

    def wait_until_idle(self, *, within: float = SOON) -> None:
        eventually(self.active, 0, within=within)


class DemoServer(LLMServer):
    """`manage.py demo_upstream`. Quick unless a message says [[delay=...]]."""

    announcement = "at "

    def __init__(self, folder: Path, *, port: int = 0, delay: float = 0.0005) -> None:
        environment = clean_environment(GATEWAY_DATA_DIR=str(folder))
        arguments = ["manage.py", "demo_upstream", "--port", str(port), "--delay", str(delay)]
        super().__init__(arguments, environment)


class FaultyServer(LLMServer):
    """tests/fakes/faulty_upstream.py: the request's model names the fault."""

    announcement = "at "

    def __init__(self, *, slow: float = 60.0) -> None:
        arguments = ["-m", "tests.fakes.faulty_upstream", "--port", "0", "--slow", str(slow)]
        super().__init__(arguments, clean_environment())

    def last(self) -> dict[str, Any]:
        """The last chat request: its headers and body."""
        last: dict[str, Any] = self.read("/last")
        return last


class RawServer(LLMServer):
    """tests/fakes/raw_upstream.py: the faulty server, with completions, embeddings, and answers to be handed on."""

    announcement = "at "

    def __init__(self) -> None:
        super().__init__(["-m", "tests.fakes.raw_upstream", "--port", "0"], clean_environment())

    def last(self) -> dict[str, Any]:
        """The last request: its headers and body."""
        last: dict[str, Any] = self.read("/last")
        return last

    def connections(self) -> int:
        """How many are open."""
        return int(self.read("/connections")["open"])
