"""A server process of ours on a free loopback port: started, waited for, read and stopped."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from tests.harness.forked import Forked, fresh

ROOT = Path(__file__).resolve().parents[2]
START_PATIENCE = 60.0  # seconds; a start takes 4 to 6 on a quiet machine
STOP_PATIENCE = 30.0

_OF_THE_DEVELOPER = (
    "GATEWAY_",
    "OPENAI_",
    "DATABASE_URL",
    "REDIS_URL",
    "DJANGO_",
    "CELERY_",
    "EMAIL_URL",
    "OLLAMA_",
    "VLLM_",
    "LMSTUDIO_",
    "OTEL_",
)


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without what would configure a gateway, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_DEVELOPER)}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


class ServerProcess:
    """A process that prints a line with `announcement` and its URL once it listens."""

    announcement = ""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environment = dict(environment)
        self._process: Forked | subprocess.Popen[str] | None = None
        self._listening = threading.Event()
        self._readers: list[threading.Thread] = []
        self.output: list[str] = []  # lines of stdout
        self.errors: list[str] = []  # lines of stderr
        self.url = ""  # without a path

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> Mapping[str, str]:
        return self._environment

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self._listening.clear()
        # With packages of its own it cannot share those that are imported already.
        start = fresh if "PYTHONPATH" in self._environment else Forked
        self._process = start(self._arguments, folder=ROOT, environment=self._environment)
        streams = ((self._process.stdout, self.output), (self._process.stderr, self.errors))
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True) for stream, lines in streams
        ]
        for reader in self._readers:
            reader.start()
        if not self._listening.wait(START_PATIENCE) or not self.url:
            self.stop()
            raise AssertionError("the server did not start:\n" + "\n".join([*self.output, *self.errors][-60:]))

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Ends the process and returns its exit code. Safe to repeat."""
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal_number)
        try:
            code = process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the server did not stop:\n" + "\n".join(self.errors[-60:])) from None
        for reader in self._readers:
            reader.join(5)
        return code

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                if self.announcement in line and not self._listening.is_set() and lines is self.output:
                    self.url = line.split(self.announcement, 1)[1].split()[0].removesuffix("/v1")
                    self._listening.set()
        self._listening.set()  # it ended; `start` sees that there is no URL
