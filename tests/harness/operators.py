"""An operator beside the running gateway, who issues keys and edits rows as the admin and the commands do.

One process for many verbs, because a `manage.py` for each would cost two seconds of CPU.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.processes import ROOT


class Operator:
    """Calls the verbs of operations.py by name."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return lambda *args, **given: self._call(verb, list(args), given)

    def _call(self, verb: str, args: list[Any], given: dict[str, Any]) -> Any:
        with self._lock:
            process = self._process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"verb": verb, "args": args, "given": given}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or '{"error": "the operator\'s process ended"}')
        if "error" in answer:
            raise AssertionError(f"{verb} failed:\n{answer['error']}")
        return answer["value"]

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("operations.py"))],
            cwd=ROOT,
            env={**self._environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def _stop(self) -> None:
        if self._process:
            self._process.communicate(timeout=10)
            self._process = None
