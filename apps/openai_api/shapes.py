"""How the answers of each endpoint are written: as frames of a stream, or as one object."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from apps.core.errors import GatewayError
from apps.execution.events import RunEvent
from apps.openai_api.forwarding import ForwardedWhole, ForwardingWriter
from apps.openai_api.wire import ChunkWriter, Fold


class Writer(Protocol):
    def opening(self) -> bytes: ...
    def frame(self, event: RunEvent) -> bytes: ...
    def failure(self, error: GatewayError) -> bytes: ...


class Whole(Protocol):
    def add(self, event: RunEvent) -> None: ...
    def encoded(self) -> bytes: ...


class Shape(NamedTuple):
    """`writer` and `whole` take the `id` of the answer and the `model` that was asked for."""

    writer: Callable[..., Writer]
    whole: Callable[..., Whole]


def of_agents(*, with_usage: bool) -> Shape:
    return _WITH_USAGE if with_usage else _WITHOUT


def _forwarded(chunk: str, whole: str) -> Shape:
    return Shape(partial(ForwardingWriter, object=chunk), partial(ForwardedWhole, object=whole))


_WITH_USAGE, _WITHOUT = (Shape(partial(ChunkWriter, with_usage=with_usage), Fold) for with_usage in (True, False))
CHAT = _forwarded("chat.completion.chunk", "chat.completion")
COMPLETION = _forwarded("text_completion", "text_completion")
EMBEDDINGS = Shape(partial(ForwardingWriter, object="list"), partial(ForwardedWhole, object="list", is_list=True))
