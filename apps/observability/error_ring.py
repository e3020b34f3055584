"""Recent failures, for operators of all workers: written behind, equal ones counted, the oldest dropped."""

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec
from django.db import transaction
from django.db.models import F

from apps.core import clock
from apps.core.redaction import redacted
from apps.core.write_behind import BatchWriter
from apps.observability.models import ErrorEvent
from apps.observability.plain import cut, plain, text, traceback_text
from apps.observability.requests import request_id

KEPT: Final = 2000  # events
WAITING: Final = 1000  # kinds of failure that wait to be written; one that comes on top is in the log alone
LONGEST_MESSAGE: Final = 2_000  # characters
LONGEST_TRACEBACK: Final = 12_000
NO_FACTS: Mapping[str, Any] = MappingProxyType({})

# What differs from one time to the next of the same failure: ids, addresses, times, generations, long numbers.
_VOLATILE: Final = re.compile(
    r"0x[0-9a-f]+|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|__g\d+|\b(?=\w*\d)[A-Za-z0-9]{16,}\b|\d{4,}"
    r"|\d+(?:\.\d+)?(?= ?(?:s|ms|sec|seconds?|milliseconds?)\b)|\d+\.\d+",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Noted:
    fingerprint: str
    stage: str
    code: str
    subject: str
    message: str
    remedy: str
    traceback: str
    facts: dict[str, Any]
    request_id: str
    first_at: datetime
    last_at: datetime
    count: int = 1


_noted: dict[str, _Noted] = {}  # that wait to be written
_traced: set[str] = set()  # whose traceback this process has kept once
_lock = threading.Lock()


def note(  # noqa: PLR0913  # the columns of a row, by name
    stage: str,
    *,
    code: str,
    message: str,
    subject: str = "",
    remedy: str = "",
    facts: Mapping[str, Any] = NO_FACTS,
    last: Mapping[str, Any] = NO_FACTS,
    is_message_alike: bool = True,
    error: BaseException | None = None,
) -> None:
    """Remember a failure. Returns at once, and raises nothing for what the values are.

    Equal ones are counted: those of the same stage, code, subject and `facts`, and where `is_message_alike` of the same
    message but for ids, times and long numbers in it. `last` are facts of the last time. `error` gives the traceback.
    """
    now, request = clock.now(), request_id.get()
    fingerprint = _fingerprint(stage, code, subject, message if is_message_alike else "", facts)
    with _lock:
        if known := _noted.get(fingerprint):
            known.count += 1
            known.last_at, known.request_id, known.message = now, request or known.request_id, message
            known.facts.update(last)
            return
        trace = _traceback(fingerprint, error)
        known_facts = {**facts, **last}
        one = _Noted(fingerprint, stage, code, subject, message, remedy, trace, known_facts, request, now, now)
        if _writer.offer(one):
            _noted[fingerprint] = one


def _fingerprint(stage: str, code: str, subject: str, message: str, facts: Mapping[str, Any]) -> str:
    """Equal for what is the same to an operator, whenever it happened and under whichever request."""
    same = [stage, code, subject, _VOLATILE.sub("#", message[:LONGEST_MESSAGE]), plain(dict(facts))]
    return hashlib.sha256(msgspec.json.encode(plain(same), order="sorted")).hexdigest()


def _traceback(fingerprint: str, error: BaseException | None) -> str:
    """Of the first time: it costs more than all the rest."""
    if error is None or fingerprint in _traced:
        return ""
    if len(_traced) >= KEPT:
        _traced.clear()
    _traced.add(fingerprint)
    return traceback_text(error, longest=LONGEST_TRACEBACK)


def _write(batch: list[_Noted]) -> None:
    with _lock:
        for one in batch:  # what comes from now on is another entry
            if _noted.get(one.fingerprint) is one:
                del _noted[one.fingerprint]
    with transaction.atomic():
        for one in batch:
            _count(one)
        surplus = ErrorEvent.objects.order_by("-last_at").values("pk")[KEPT:]
        ErrorEvent.objects.filter(pk__in=list(surplus.values_list("pk", flat=True))).delete()


def _count(one: _Noted) -> None:
    last = {
        "message": _shown(one.message, LONGEST_MESSAGE),
        "facts": _redacted(plain(one.facts)),
        "last_at": one.last_at,
        "request_id": text(one.request_id)[:128],
    }
    if one.remedy:
        last["remedy"] = _shown(one.remedy, LONGEST_MESSAGE)
    if one.traceback:
        last["traceback"] = _shown(one.traceback, LONGEST_TRACEBACK * 2)
    known = ErrorEvent.objects.filter(fingerprint=one.fingerprint)
    if known.update(count=F("count") + one.count, **last):
        return
    ErrorEvent.objects.create(
        fingerprint=one.fingerprint,
        stage=text(one.stage)[:20],
        code=text(one.code)[:60],
        subject=redacted(text(one.subject))[:200],
        count=one.count,
        first_at=one.first_at,
        **last,
    )


def _shown(value: str, longest: int) -> str:
    return cut(redacted(text(value, longest * 2)), longest)


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redacted(value)
        case dict():
            return {redacted(name): _redacted(one) for name, one in value.items()}
        case list():
            return [_redacted(one) for one in value]
        case _:
            return value


_writer: BatchWriter[_Noted] = BatchWriter("error-ring", _write, capacity=WAITING)
start, stop = _writer.start, _writer.stop
