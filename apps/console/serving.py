"""Running the web server: uvicorn over `gateway_site.asgi`, in this process or in several."""

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from time import sleep

import uvicorn
from django.conf import settings
from django.db import connections
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from apps.console.http_protocol import HttpProtocol
from apps.observability.sharing import Parent

APPLICATION = "gateway_site.asgi:application"
GRACE = 20  # seconds that a stop waits for answers under way


class CannotServe(Exception):
    """The message is one sentence and a remedy, for the terminal."""


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


class _Workers(Multiprocess):
    """Says when the first of its processes listens, and keeps the metrics of those that have died."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._ready = ready
        self._metrics = Parent(settings.DATA_DIR / "metrics")

    def run(self) -> None:
        """Raises SystemExit as a single server does, when one of them could not start."""
        try:
            super().run()
        finally:
            self._metrics.close()
        if any(process.exitcode == STARTUP_FAILURE for process in self.processes):
            sys.exit(STARTUP_FAILURE)

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        self._metrics.keep_of_the_dead(process.pid for process in self.processes)

    def init_processes(self) -> None:
        super().init_processes()
        threading.Thread(target=self._announce, name="announce", daemon=True).start()

    def _announce(self) -> None:
        # They share the sockets, and each listens only once its application has started.
        while not self.should_exit.is_set():
            if all(_accepts(sock) for sock in self.sockets):
                self._ready()
                return
            sleep(0.1)


def serve(sock: socket.socket, *, workers: int, ready: Callable[[], None]) -> None:
    """Serve on a bound socket until a signal ends it; `ready` is called once it listens. Raises CannotServe."""
    connections.close_all()  # a connection of the start-up is of no use to a loop, and unsafe in another process
    config = uvicorn.Config(
        APPLICATION,
        workers=workers,
        loop="uvloop" if os.name == "posix" else "asyncio",
        http=HttpProtocol,
        ws="websockets-sansio",
        ws_max_size=4096,  # the live page says nothing
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.BEHIND_TLS,
        timeout_graceful_shutdown=GRACE,
    )
    try:
        if workers > 1:
            _Workers(config, [sock], ready).run()
        else:
            _Server(config, ready).run([sock])
    except SystemExit as end:
        if end.code != STARTUP_FAILURE:
            raise
        raise CannotServe("The gateway could not start; the last lines of its log, above, say why.") from end
    except OSError as error:  # the port was taken between bind and listen
        raise CannotServe(_why(error, *sock.getsockname()[:2])) from error


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening. Raises CannotServe when that cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except (OSError, OverflowError) as error:
        raise CannotServe(_why(error, host, port)) from error
    sock.set_inheritable(True)
    return sock


def _accepts(sock: socket.socket) -> bool:
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    with socket.socket(sock.family, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        return client.connect_ex((host, port)) == 0


def _why(error: Exception, host: str, port: int) -> str:
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return (
                f"Port {port} is in use. Is the gateway running already? Another port: GATEWAY_PORT={port + 1} make run"
            )
        case errno.EACCES:
            return f"This user may not listen on port {port}. Take one above 1023: GATEWAY_PORT=8000 make run"
        case _:
            return f"Cannot listen on {host}:{port} ({error}). Check GATEWAY_HOST and GATEWAY_PORT."
