"""The door: /v1 and the health checks stay on the event loop, WebSockets go to Channels, everything else goes through
Django's own handler."""

import os
from typing import Any

from gateway_site.sdk_guard import refuse_hidden_sdk

refuse_hidden_sdk()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")

import django  # noqa: E402

django.setup(set_prefix=False)

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.db import DatabaseError  # noqa: E402

from apps.console.live.routing import websockets  # noqa: E402
from apps.core.database import explain_database  # noqa: E402
from apps.core.loop_handler import LoopHandler, Receive, Scope, Send  # noqa: E402

# Routes are loaded now, not at the first request: a section of the configuration that is declared only then would take
# the snapshot from under the requests of a running worker.
from gateway_site import urls  # noqa: E402, F401
from gateway_site.worker import worker  # noqa: E402

_loop = LoopHandler()
_django = ASGIHandler()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if not worker.is_running:  # a server without lifespan events, such as `runserver`
        await worker.start()
    if scope["type"] == "websocket":
        await websockets(scope, receive, send)
        return
    path: str = scope["path"]
    on_loop = path.startswith("/v1/") or path in ("/health", "/ready", "/v1")
    handler: Any = _loop if on_loop else _django
    await handler(scope, receive, send)


def _why(error: Exception) -> str:
    return explain_database(error) if isinstance(error, DatabaseError) else f"{type(error).__name__}: {error}"


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await worker.start()
            except Exception as error:  # noqa: BLE001  # the server reports it and exits
                await send({"type": "lifespan.startup.failed", "message": _why(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await worker.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
