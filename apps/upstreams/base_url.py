"""The address that the calls of an upstream begin with: one judgement for the form and for files."""

from typing import Final
from urllib.parse import urlsplit

_CALLS: Final = ("/chat/completions", "/responses", "/models")


def mistake(base_url: str) -> str:
    """A sentence; empty where there is none. An empty address is the model's business."""
    if base_url and not _is_http_url(base_url):
        return "This is no address of a web server; it looks like http://127.0.0.1:11434/v1."
    if "@" in urlsplit(base_url).netloc:
        return "Leave user name and password out of the address: the API key is kept secret."
    return ""


def tidied(base_url: str) -> str:
    """Without what people paste with it, most often the address of one call."""
    base_url = base_url.strip().rstrip("/")
    for call in _CALLS:
        base_url = base_url.removesuffix(call)
    return base_url


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return False
