"""What a whole answer says of itself, read without building the rest: why it ended, and what it used."""

from collections.abc import Mapping
from typing import Any

import msgspec

from apps.core.json import UNREADABLE
from apps.upstreams.calls import ModelCall
from apps.upstreams.hearing import hear_whole

_CHARACTERS_PER_TOKEN = 4


class _Message(msgspec.Struct):
    content: Any = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None
    text: str | None = None  # of /completions

    @property
    def said(self) -> str:
        content = self.message.content if self.message else self.text
        return content if isinstance(content, str) else ""


class _Whole(msgspec.Struct):
    usage: Any = None
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Whole).decode


def asked_in(sent: Mapping[str, Any]) -> Any:
    """The prompt of a request, whichever endpoint it is for."""
    return sent.get("messages") or sent.get("prompt") or sent.get("input")


def read_whole(data: bytes, sent: Mapping[str, Any], call: ModelCall) -> None:
    """Count the answer in `call`: by its usage, else estimated. What cannot be read is the client's to judge."""
    try:
        whole = _decode(data)
    except UNREADABLE:
        whole = _Whole()
    choices = whole.choices or []
    call.finish_reason = choices[0].finish_reason if choices else None
    if call.heard:
        hear_whole(call.heard, data)
    if isinstance(whole.usage, dict):
        call.report(whole.usage)
    else:
        call.estimate(asked_in(sent), sum(len(one.said) for one in choices) // _CHARACTERS_PER_TOKEN)
