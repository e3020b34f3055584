"""A process that has imported the large packages, and forks: what it starts is as `python <arguments>` would be,
without the two seconds of CPU that importing the SDK costs. Nothing of the gateway's own code is imported here.

Reads requests from the socket whose number is its argument: JSON with `arguments`, `environment` and `folder`, and
three descriptors for stdin, stdout and stderr. Answers lines of JSON: `{"pid": n}` for each, `{"pid": n, "status": s}`
when one has ended.
"""

import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from multiprocessing import util

PRELOADED = (
    "agents",
    "agents.mcp",
    "aiohttp.web",
    "celery.app.amqp",
    "celery.app.task",
    "channels.auth",
    "channels.generic.websocket",
    "channels_redis.core",
    "channels_redis.pubsub",
    "cron_descriptor",
    "cryptography.fernet",
    "dateutil.rrule",
    "django.contrib.admin",
    "django.contrib.postgres.fields",
    "django.contrib.sessions.backends.db",
    "django.contrib.staticfiles.storage",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "environ",
    "httptools",
    "jmespath",
    "jsonschema",
    "jwt",
    "mcp",
    "openai",
    "packaging.requirements",
    "prometheus_client",
    "redis.asyncio",
    "structlog",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "websockets",
    "whitenoise.middleware",
    "yaml",
)
DESCRIPTORS = 3
LARGEST = 1024 * 1024  # bytes of a request


def serve(channel: socket.socket) -> "list[str] | None":
    """Forks for every request. Returns None when the tests have ended, in a child the arguments that it is to run."""
    wakeup, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    while True:
        ready, _, _ = select.select([channel, wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 4096)
            _tell_of_ended(channel)
        if channel in ready:
            message, descriptors, _, _ = socket.recv_fds(channel, LARGEST, DESCRIPTORS)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for descriptor in (wakeup, written, channel.detach()):
                    os.close(descriptor)
                return _become(json.loads(message), descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            _tell(channel, pid=pid)


def _tell_of_ended(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(channel, pid=pid, status=os.waitstatus_to_exitcode(status))


def _tell(channel: socket.socket, **answer: int) -> None:
    channel.sendall(json.dumps(answer).encode() + b"\n")


def _become(asked: "dict[str, object]", descriptors: "list[int]") -> "list[str]":
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])  # type: ignore[call-overload]
    os.chdir(str(asked["folder"]))
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        number = ("stdin", "stdout", "stderr").index(name)
        stream = open(number, mode, encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    arguments: list[str] = asked["arguments"]  # type: ignore[assignment]
    return arguments


def run(arguments: "list[str]") -> None:
    """As `python <arguments>` in the working folder."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path.insert(0, "")
        exec(arguments[1], {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))  # noqa: PTH100, PTH120
        sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        runpy.run_path(arguments[0], run_name="__main__")


def spawn_from_twin() -> "str | None":
    """From now on, processes that this one spawns by multiprocessing, which the workers of a gateway are, are forked
    too: from a twin of this process, which has run nothing yet, so that they begin as in a new interpreter. Returns
    None, and in such a process the code that it is to run."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        return _be_twin(theirs)
    theirs.close()
    spawn = util.spawnv_passfds  # type: ignore[attr-defined]

    def spawn_or_fork(path: bytes, arguments: "list[str]", descriptors: "list[int]") -> int:
        code = arguments[-2]
        if "spawn_main" not in code:
            return int(spawn(path, arguments, descriptors))
        asked = {"code": code, "numbers": descriptors, "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109
        _adopt(orphans=True)
        socket.send_fds(ours, [json.dumps(asked).encode()], descriptors)
        pid = int(ours.recv(32))
        _adopt(orphans=False)
        return pid

    util.spawnv_passfds = spawn_or_fork  # type: ignore[attr-defined]
    return None


def _be_twin(channel: socket.socket) -> "str | None":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process itself, with whose end the channel ends
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, LARGEST, 64)
        if not message:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            if pid := os.fork():
                os.write(writing, str(pid).encode())
                os._exit(0)  # which makes an orphan of the process, and so a child of the one that asked
            os.close(reading)
            os.close(writing)
            channel.close()
            asked = json.loads(message)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.clear()
            os.environ.update(asked["environment"])
            os.chdir(asked["folder"])
            # Out of the way first: a number that is to be taken may be that of another.
            apart = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 500) for descriptor in descriptors]
            for descriptor in descriptors:
                os.close(descriptor)
            for descriptor, number in zip(apart, asked["numbers"], strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
            with open("/proc/self/comm", "w") as name:  # noqa: PTH123
                name.write("spawn_main")  # as it is found among the gateway's children
            return str(asked["code"])
        os.waitpid(between, 0)
        channel.sendall(os.read(reading, 32))
        for descriptor in (reading, writing, *descriptors):
            os.close(descriptor)


def _adopt(*, orphans: bool) -> None:
    """Whether processes below this one become its children when their parents end (Linux)."""
    set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, int(orphans), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules would hide packages
    for name in PRELOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork copies only the thread that calls it"
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    if child := serve(socket.socket(fileno=int(sys.argv[1]))):
        has_workers = "serve" in child and os.environ.get("GATEWAY_WORKERS", "1") != "1"
        if code := has_workers and sys.platform == "linux" and spawn_from_twin():
            sys.argv = ["-c", "--multiprocessing-fork"]
            exec(code)
        else:
            run(child)
