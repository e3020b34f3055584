"""JSON for the wire."""

import json
from typing import Any, Final

import msgspec

# What decoding raises for what is not JSON, is not UTF-8, is of another shape, or nests too deeply to be read.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> bytes:
    """`value` as UTF-8 JSON. Half a surrogate pair, as in file names that Python could not decode, becomes "?"."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
