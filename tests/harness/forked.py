"""Processes started by forkserver.py, with the members of `subprocess.Popen` that the tests use."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from tests.harness import forkserver


class Forked:
    """`python <arguments>` with pipes; `stdin` is one only where it is asked for, and with `shows_errors` its stderr is
    that of the tests."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        stdin: bool = False,
        shows_errors: bool = False,
    ) -> None:
        ours: list[int] = []
        theirs: list[int] = []
        for number in range(forkserver.DESCRIPTORS):
            if number == 0 and not stdin:
                theirs.append(os.open(os.devnull, os.O_RDONLY))
                ours.append(os.open(os.devnull, os.O_WRONLY))
            elif number == 2 and shows_errors:
                theirs.append(os.dup(2))
                ours.append(os.open(os.devnull, os.O_RDONLY))
            else:
                reading, writing = os.pipe()
                ours.append(writing if number == 0 else reading)
                theirs.append(reading if number == 0 else writing)
        try:
            self._ended, self.pid = _server().start(arguments, folder, environment, theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self.returncode: int | None = None
        self.stdin: IO[str] = open(ours[0], "w", encoding="utf-8")  # noqa: SIM115, PTH123
        self.stdout: IO[str] = open(ours[1], encoding="utf-8")  # noqa: SIM115, PTH123
        self.stderr: IO[str] = open(ours[2], encoding="utf-8")  # noqa: SIM115, PTH123

    def poll(self) -> int | None:
        if self._ended.is_set():
            self.returncode = self._ended.status
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("forked", timeout or 0)
        self.returncode = self._ended.status
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All of its output and of its errors, once it has ended."""
        with ThreadPoolExecutor(2) as pool:
            output, errors = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return output.result(), errors.result()

    def close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()


def fresh(arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """The same by a new interpreter."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run with the output captured. `timeout` is in seconds; raises subprocess.TimeoutExpired."""
    process = Forked(arguments, folder=folder, environment=environment)
    try:
        output, errors = process.communicate(timeout)
    finally:
        process.close()
    return subprocess.CompletedProcess(list(arguments), process.wait(), output, errors)


class _Ended(threading.Event):
    status = 0


class _Server:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, forkserver.__file__, str(theirs.fileno())]
        # Its environment decides nothing: every child gets its own.
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._channel = ours
        self._lock = threading.Lock()
        self._started: Any = None
        self._began = threading.Event()
        self._ended: dict[int, _Ended] = {}
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self.close)

    def start(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], descriptors: Sequence[int]
    ) -> tuple[_Ended, int]:
        asked = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        with self._lock:
            self._began.clear()
            socket.send_fds(self._channel, [json.dumps(asked).encode()], list(descriptors))
            if not self._began.wait(60):
                raise AssertionError("the process that forks does not answer")
            started: tuple[_Ended, int] = self._started
            return started

    def close(self) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.wait(10)

    def _listen(self) -> None:
        with self._channel.makefile("rb") as lines:
            for line in lines:
                answer = json.loads(line)
                if "status" in answer:
                    ended = self._ended.pop(answer["pid"])
                    ended.status = answer["status"]
                    ended.set()
                else:
                    ended = self._ended[answer["pid"]] = _Ended()
                    self._started = ended, answer["pid"]
                    self._began.set()


_servers: list[_Server] = []


def _server() -> _Server:
    if not _servers:
        _servers.append(_Server())
    return _servers[0]
