"""JSON for the wire."""

import json
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> bytes:
    """`value` as UTF-8 JSON. Half a surrogate pair, as in file names that Python could not decode, becomes "?"."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
