"""The chunks of a streamed answer that are handed on as they came; see raw_answers.py."""

from collections.abc import Mapping
from typing import Any

import msgspec

from apps.core.errors import UpstreamUnreachable
from apps.upstreams.calls import ModelCall
from apps.upstreams.hearing import hear_raw
from apps.upstreams.raw_answers import NOTHING, NULL, Choice, Members, RawAnswer
from apps.upstreams.routing import Target
from apps.upstreams.whole import asked_in


class RawStream(RawAnswer):
    """One stream. `asks_usage`: the client wants to see the usage; the gateway does in any case."""

    what = "a chat completion chunk"

    def __init__(
        self, target: Target, call: ModelCall, path: str, body: Mapping[str, Any], *, asks_usage: bool
    ) -> None:
        super().__init__(target, call, path, body)
        self._asks_usage = asks_usage
        self._begun: set[int] = set()  # choices
        self._finished: dict[int, str] = {}  # choices that have ended, and why
        self._last: Members = {}  # the chunk that brought nothing but usage
        self._received = 0

    def read(self, data: bytes) -> Members | None:
        """A chunk as the client gets it; None where there is nothing to tell. Raises UpstreamError."""
        members, choices = self._read(data)
        if choices is None:
            return None
        if not choices:
            return self._without_choices(members)
        if self._asks_usage:
            members["usage"] = None  # it comes with the last one
        self._received += 1
        is_sound = b'"tool_calls"' not in data
        for choice in choices:
            is_sound = self._note(choice) and is_sound
        if not is_sound:
            members["choices"] = self._mended(data, members["choices"], self._mend)
        return members

    def _without_choices(self, members: Members) -> Members | None:
        if self._reported is None:  # such as the verdict of a filter over the prompt
            return members
        self._last = members
        return None

    def _note(self, choice: Choice) -> bool:
        """Whether the choice can stay as it is."""
        index = choice.index or 0
        self._begun.add(index)
        said = choice.delta if self._is_chat else choice.text
        if self._call.heard and index == 0:
            hear_raw(self._call.heard, said, is_text=not self._is_chat)
        is_sound = choice.index is not None and said != NOTHING and said != NULL  # noqa: PLR1714  # Raw has no hash
        if not choice.finish_reason:
            return is_sound
        reason = self._finished[index] = self._finish_reason(index, choice.finish_reason)
        return is_sound and reason == choice.finish_reason

    def _mend(self, choice: Members) -> None:
        index = choice["index"] = choice.get("index") or 0
        if not self._is_chat:
            choice["text"] = choice.get("text") or ""
            return
        # A server that knows no streams sends a message although a stream was asked for.
        delta = choice["delta"] = choice.get("delta") or choice.pop("message", None) or {}
        if delta.get("tool_calls"):
            self._identify(index, delta["tool_calls"])
        if given := choice.get("finish_reason"):
            choice["finish_reason"] = self._finished[index] = self._finish_reason(index, given)

    def ending(self, *, is_complete: bool) -> list[Members]:
        """What the server left out: the ends of choices; and the usage, when the client asked for it.

        Raises UpstreamUnreachable for an answer that broke off: nothing has finished, and the server did not say that
        it is complete.
        """
        if not self._finished and not is_complete:
            raise UpstreamUnreachable(
                f"Upstream '{self._target.slug}' ended its answer without finishing it.", code="upstream_cut"
            )
        chunks = [self._end_of(index) for index in sorted((self._begun or {0}) - self._finished.keys())]
        if not self._asks_usage:
            return chunks
        self.count()
        return [*chunks, {**self._last, "choices": [], "usage": self._usage()}]

    def _end_of(self, index: int) -> Members:
        said: Members = {"delta": {}} if self._is_chat else {"text": ""}
        reason = self._finished[index] = self._finish_reason(index, None)
        choice = {"index": index, **said, "logprobs": None, "finish_reason": reason}
        return {"choices": [choice], "usage": None} if self._asks_usage else {"choices": [choice]}

    def count(self) -> None:
        """Tokens and the finish reason go to the call, however far the answer came."""
        self._call.finish_reason = self._finished.get(0) or next(iter(self._finished.values()), None)
        reported = msgspec.json.decode(self._reported) if self._reported is not None else None
        if isinstance(reported, dict):
            self._call.report(reported)
        else:
            self._call.estimate(asked_in(self._body), self._received)
