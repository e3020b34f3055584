"""The WebSockets of this site: one. Everything else is refused without a word in the log."""

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack
from django.urls import path, re_path

from apps.console.live.consumer import LiveConsumer

FEED = "admin/live/feed/"


class _Refuse(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels ships no types
    async def connect(self) -> None:
        await self.close()


websockets = AllowedHostsOriginValidator(
    SessionMiddlewareStack(URLRouter([path(FEED, LiveConsumer.as_asgi()), re_path("", _Refuse.as_asgi())]))
)
