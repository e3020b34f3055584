"""Serves the demo upstream over HTTP: an OpenAI-compatible server with no LLM behind it."""

import socket
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand, CommandError

from apps.upstreams.demo_server import DemoServer


class Command(BaseCommand):
    help = "Serves the built-in demo upstream, an OpenAI-compatible server with no LLM behind it. Needs no database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8089, help="Default: 8089. 0 takes a free one.")
        parser.add_argument("--host", default="127.0.0.1", help="Default: 127.0.0.1, this machine only.")
        parser.add_argument("--delay", type=float, default=0.02, help="Seconds between two words. Default: 0.02.")
        parser.add_argument("--first-delay", type=float, default=0.0, help="Seconds before an answer. Default: 0.")
        parser.add_argument("--api-key", default="", help="Ask callers for this key. Default: none needed.")

    def handle(self, *_args: Any, **options: Any) -> None:
        app = DemoServer(delay=options["delay"], first_delay=options["first_delay"], api_key=options["api_key"])
        with _listening(options["host"], options["port"]) as listener:
            port = listener.getsockname()[1]
            host = f"[{options['host']}]" if ":" in options["host"] else options["host"]
            self.stdout.write(f"Demo upstream (no LLM) at http://{host}:{port}/v1 - Ctrl+C stops it.")
            self.stdout.flush()
            _serve(app, listener)


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket: whoever reads the line printed next can connect. Raises CommandError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (")[0]  # the address is in our own words
        message = f"Cannot listen on {host}:{port} ({reason}): choose another --port, or stop what uses this one."
        raise CommandError(message) from error


def _serve(app: DemoServer, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        loop="auto",
        http="auto",
        backlog=2048,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):  # uvicorn has stopped cleanly by then, and raises the signal again
        uvicorn.Server(config).run(sockets=[listener])
