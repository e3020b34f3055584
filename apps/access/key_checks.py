"""What may be asked of an API key: one judgement for the form and the operators' API."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from apps.access.subject import networks

NO_SCOPE: Final = "A key with no scope could do nothing: allow chat, admin or both."
ENDED: Final = "A new key must end in the future."
ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?", re.IGNORECASE)
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_USUAL_PORTS = {"http": 80, "https": 443}


def is_range(text: str) -> bool:
    """Whether it is an address, or a range of addresses."""
    try:
        return bool(list(networks([text])))
    except ValueError:
        return False


def no_range(text: str) -> str:
    """What to say of a text that is none."""
    return f"“{text}” is no address and no range such as 10.0.0.0/8."


def as_browsers_send(origins: Iterable[str]) -> list[str]:
    """Each once, as an Origin header has it. Raises ValueError with a sentence for what is no origin."""
    return list(dict.fromkeys(map(_as_browsers_send, origins)))


def _as_browsers_send(origin: str) -> str:
    """In lower case, and without a port that is the scheme's usual one."""
    if not ORIGIN.fullmatch(origin):
        raise ValueError(f"“{origin}” is no origin: scheme and host, as in https://chat.example.com, and no path.")
    parts = urlsplit(origin.lower().rstrip("/"))
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"“{origin}” names a port that cannot be.") from error
    usual = port is not None and port == _USUAL_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{parts.netloc.rpartition(':')[0] if usual else parts.netloc}"
