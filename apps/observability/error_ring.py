"""Recent failures, for operators of all workers: written behind, equal ones counted, the oldest dropped."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import F

from apps.core import clock
from apps.core.write_behind import BatchWriter
from apps.observability.models import ErrorEvent
from apps.observability.requests import request_id

KEPT = 2000  # events
NO_FACTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Noted:
    stage: str
    code: str
    subject: str
    message: str
    facts: dict[str, Any]
    request_id: str
    at: datetime

    @property
    def fingerprint(self) -> str:
        """Equal for what is the same to an operator, whenever it happened and under whichever request."""
        same = [self.stage, self.code, self.subject, self.message, self.facts]
        return hashlib.sha256(msgspec.json.encode(same, order="sorted", enc_hook=str)).hexdigest()


def note(stage: str, *, code: str, message: str, subject: str = "", facts: Mapping[str, Any] = NO_FACTS) -> None:
    """Remember a failure. Returns at once; one that comes while too many wait is dropped, and the log has it still."""
    _writer.offer(_Noted(stage, code, subject, message, dict(facts), request_id.get(), clock.now()))


def _write(noted: list[_Noted]) -> None:
    groups: dict[str, list[_Noted]] = {}
    for one in noted:
        groups.setdefault(one.fingerprint, []).append(one)
    with transaction.atomic():
        for fingerprint, group in groups.items():
            _count(fingerprint, group)
        surplus = ErrorEvent.objects.order_by("-last_at").values("pk")[KEPT:]
        ErrorEvent.objects.filter(pk__in=list(surplus.values_list("pk", flat=True))).delete()


def _count(fingerprint: str, group: list[_Noted]) -> None:
    last = group[-1]
    known = ErrorEvent.objects.filter(fingerprint=fingerprint)
    if known.update(count=F("count") + len(group), last_at=last.at, request_id=last.request_id):
        return
    ErrorEvent.objects.create(
        fingerprint=fingerprint,
        stage=last.stage,
        code=last.code,
        subject=last.subject[:200],
        message=last.message.replace("\0", ""),
        facts=last.facts,
        request_id=last.request_id,
        count=len(group),
        first_at=group[0].at,
        last_at=last.at,
    )


_writer: BatchWriter[_Noted] = BatchWriter("error-ring", _write, capacity=1000)
start, stop = _writer.start, _writer.stop
