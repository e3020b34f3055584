"""An operator beside the running gateway, who issues keys and edits rows as the admin and the commands do.

One process for many verbs, because a `manage.py` for each would cost two seconds of CPU.
"""

import json
import threading
from collections.abc import Mapping
from typing import Any

from tests.harness.forked import Forked
from tests.harness.processes import ROOT


class Operator:
    """Calls the verbs of operations.py by name."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: Forked | None = None
        self._lock = threading.Lock()

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return lambda *args, **given: self._call(verb, list(args), given)

    def _call(self, verb: str, args: list[Any], given: dict[str, Any]) -> Any:
        with self._lock:
            process = self._process = self._process or self._start()
            process.stdin.write(json.dumps({"verb": verb, "args": args, "given": given}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or '{"error": "the operator\'s process ended"}')
        if "error" in answer:
            raise AssertionError(f"{verb} failed:\n{answer['error']}")
        return answer["value"]

    def _start(self) -> Forked:
        return Forked(
            ["-m", "tests.harness.operations"],
            folder=ROOT,
            environment=self._environment,
            stdin=True,
            shows_errors=True,
        )

    def _stop(self) -> None:
        if self._process:
            self._process.close()  # which ends its input
            self._process.wait(60)  # at leisure: the machine may be busy with other tests
            self._process = None
