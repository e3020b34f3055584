"""What a server means that does not answer: its statuses, error bodies and error events, as errors of the gateway."""

import json
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from apps.core import clock
from apps.core.errors import UpstreamError, UpstreamRejected
from apps.core.json import UNREADABLE
from apps.upstreams.routing import Target

# Statuses that tell the caller something about its own request; everything else of 4xx is between us and the server.
CALLERS_FAULT: Final = frozenset({400, 404, 413, 422, 429})


_LONGEST: Final = 365 * 86_400.0  # seconds: what a server asks for beyond that is no time, but a mistake


class _Head(msgspec.Struct):
    error: Any = None
    type: Any = None
    object: Any = None


_STATUS: Final = re.compile("[1-5][0-9][0-9]")
_decode_head = msgspec.json.Decoder(_Head).decode
_FAILURES: Final = frozenset({"error", "response.error", "response.failed"})  # events of the Responses API


def refusal(target: Target, status: int, headers: Mapping[str, str], text: str) -> UpstreamError:
    """What a status other than 200 means, with the body that came with it."""
    meaning = _meaning(target, status, headers.get("Retry-After"), _message_in(text))
    meaning.answered = status
    return meaning


def _meaning(target: Target, status: int, retry_after: str | None, said: str) -> UpstreamError:
    if status in (401, 403):
        return UpstreamError(
            f"Upstream '{target.slug}' refused the gateway's secret ({status}). Enter it again in the admin.",
            code="upstream_unauthorised",
        )
    if 300 <= status < 400:
        return UpstreamError(
            f"Upstream '{target.slug}' answers elsewhere (it redirects, {status}). Enter that address as its base URL."
        )
    if status not in CALLERS_FAULT:
        return UpstreamError(
            f"Upstream '{target.slug}' failed with status {status}: {said or 'no reason given'}",
            retry_after=_seconds(retry_after),
        )
    return refused(f"Upstream '{target.slug}' says: {said or f'status {status}'}", status, retry_after)


def refused(message: str, status: int, retry_after: str | None) -> UpstreamRejected:
    """A server's refusal of the caller's own request, with its status and the header Retry-After."""
    code = "rate_limit_exceeded" if status == 429 else None
    return UpstreamRejected(message, status=status, code=code, retry_after=_seconds(retry_after))


def _message_in(text: str) -> str:
    """The reason in an error body of any of the shapes that servers use."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()[:500]
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    said = (error if isinstance(error, str) else json.dumps(error))[:500]
    return said.encode(errors="replace").decode()  # JSON may name half a character


def _seconds(retry_after: str | None) -> float | None:
    """Of a header Retry-After, which gives a number of seconds or a date."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        return _seconds_until(retry_after)
    return min(max(0.0, seconds), _LONGEST) if math.isfinite(seconds) else None


def _seconds_until(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, (at - clock.now()).total_seconds()), _LONGEST) if at.tzinfo else None


def look_at(target: Target, data: bytes) -> None:
    """Raises UpstreamError unless `data` is JSON that is no error: the beginning of an answer, or all of one."""
    try:
        head = _decode_head(data)
    except UNREADABLE as error:
        raise UpstreamError(
            f"Upstream '{target.slug}' sent something that is not a JSON object: {data[:80]!r}",
            code="upstream_garbage",
        ) from error
    if head.error or head.object == "error" or (isinstance(head.type, str) and head.type in _FAILURES):
        raise failure(target, msgspec.json.decode(data), has_begun=False)


def failure(target: Target, event: Mapping[str, Any], *, has_begun: bool = True) -> UpstreamError:
    """What an event means that tells of an error, in any of the shapes that servers use."""
    response = event.get("response")
    error = event.get("error") or (response.get("error") if isinstance(response, dict) else None) or event
    said = (error.get("message") if isinstance(error, dict) else error) or "no reason given"
    status = _status_of(error) if isinstance(error, dict) else None
    when = "in the middle of its answer" if has_begun else "instead of answering"
    message = f"Upstream '{target.slug}' failed {when}: {said}"
    return refused(message, status, None) if status in CALLERS_FAULT else UpstreamError(message)


def _status_of(error: Mapping[str, Any]) -> int | None:
    """As a number where servers give one (`code` of llama.cpp, vLLM and OpenRouter), or by OpenAI's words."""
    code, kind = error.get("code"), error.get("type")
    if isinstance(code, int) or (isinstance(code, str) and _STATUS.fullmatch(code)):
        return int(code)
    if code == "rate_limit_exceeded":
        return 429
    return 400 if kind == "invalid_request_error" else None
