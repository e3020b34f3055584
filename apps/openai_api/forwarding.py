"""Forwarded events → the wire: a server's own objects under the gateway's id and the model that the client asked for.

The counterparts of wire.ChunkWriter and wire.Fold for models that are passed through.
"""

from time import time
from typing import Any

import msgspec

from apps.core.errors import GatewayError
from apps.core.json import encode
from apps.execution.events import Finished, Forwarded, RunEvent, UnderWay
from apps.openai_api.wire import DONE, failure_frame

_WAITING = b": waiting\n\n"  # a first frame while the server says nothing; a comment, which clients skip


def _stamp(**members: Any) -> dict[str, msgspec.Raw]:
    """The members that are the gateway's, encoded once."""
    return {name: msgspec.Raw(encode(value)) for name, value in members.items()}


class ForwardingWriter:
    """Writes the frames of one stream. Those that were there at once leave at once."""

    def __init__(self, *, id: str, model: str, object: str) -> None:
        self._stamp = _stamp(id=id, object=object, model=model)
        self._created = int(time())

    def opening(self) -> bytes:
        return b""  # the server's first chunk has the role

    def frame(self, event: RunEvent) -> bytes:
        """The frames for an event. Those of Finished end the stream."""
        if type(event) is Forwarded:
            return b"".join([self._frame(chunk) for chunk in event.objects])
        if type(event) is Finished:
            return DONE
        return _WAITING if type(event) is UnderWay else b""

    def failure(self, error: GatewayError) -> bytes:
        return failure_frame(error)

    def _frame(self, chunk: dict[str, Any]) -> bytes:
        chunk.update(self._stamp)
        chunk.setdefault("created", self._created)
        return b"data: " + encode(chunk) + b"\n\n"


class ForwardedWhole:
    """The one object of a whole answer. Lists of embeddings have neither id nor time."""

    def __init__(self, *, id: str, model: str, object: str, is_list: bool = False) -> None:
        own = {"object": object, "model": model}
        self._own = own if is_list else {"id": id, **own}
        self._is_list = is_list
        self._answer: dict[str, Any] = {}

    def add(self, event: RunEvent) -> None:
        if type(event) is Forwarded:
            (self._answer,) = event.objects

    def encoded(self) -> bytes:
        answer = {**self._answer, **self._own}
        if not self._is_list:
            answer.setdefault("created", int(time()))
        return encode(answer)
