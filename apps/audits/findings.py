"""What a rule found, written over what was known: new, still there, gone, back again."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from apps.audits.models import AuditRun, Finding, FindingEvent
from apps.audits.rule import Found, Rule

LONGEST = timedelta(days=366)  # that a finding can be accepted for

State, What = Finding.State, FindingEvent.What


Changed = tuple[list[Finding], list[Finding]]


def write_found(run: AuditRun, rule: Rule, found: Iterable[Found], now: datetime) -> Changed:
    """The findings of this rule as they are now. Returns those to be told of (new, back, or no longer accepted) and
    those that are gone. Call it in a transaction."""
    known = {row.subject: row for row in Finding.objects.filter(rule=rule.id)}
    told = []
    seen = {one.subject[:300]: one for one in found}
    for subject, one in seen.items():
        row = known.get(subject) or Finding(rule=rule.id, subject=subject, first_seen=now, since=now)
        if _write(run, row, rule, one, now):
            told.append(row)
    gone = [row for subject, row in known.items() if subject not in seen and row.state != State.GONE]
    for row in gone:
        write_gone(run, row, now)
    return told, gone


def _write(run: AuditRun, row: Finding, rule: Rule, one: Found, now: datetime) -> bool:
    """Whether it is to be told of."""
    what = _what_happened(row, now)
    row.title, row.severity = rule.title, rule.severity
    row.message, row.remedy, row.link = one.message, one.remedy or rule.remedy, one.link[:500]
    row.last_seen = now
    row.state = State.NEW if what in (What.NEW, What.BACK) else State.STILL
    if what is What.BACK:
        row.since = now
    if what is not None:
        _take_acceptance(row)
    row.save()
    if what is not None:
        FindingEvent.objects.create(finding=row, run=run, what=what, at=now)
    return what is not None


def _what_happened(row: Finding, now: datetime) -> FindingEvent.What | None:
    if row._state.adding:  # noqa: SLF001  # how Django names it
        return What.NEW
    if row.state == State.GONE:
        return What.BACK
    return What.RETURNED if row.accepted_until and not row.is_accepted(now) else None


def write_gone(run: AuditRun, row: Finding, now: datetime, note: str = "") -> None:
    """An acceptance goes along: when it is back, somebody looks at it again."""
    row.state = State.GONE
    _take_acceptance(row)
    row.save()
    FindingEvent.objects.create(finding=row, run=run, what=What.GONE, at=now, note=note)


def _take_acceptance(row: Finding) -> None:
    row.accepted_by = row.accepted_reason = ""
    row.accepted_until = None


def accept(row: Finding, *, by: str, reason: str, until: datetime, now: datetime) -> None:
    """Until then it counts for nothing and is told to nobody. The reason is for whoever finds it accepted."""
    row.accepted_by, row.accepted_reason, row.accepted_until = by, reason, min(until, now + LONGEST)
    row.save(update_fields=["accepted_by", "accepted_reason", "accepted_until"])
    note = f"Until {row.accepted_until:%Y-%m-%d}: {reason}"
    FindingEvent.objects.create(finding=row, what=What.ACCEPTED, by=by, note=note, at=now)


def take_back(row: Finding, *, by: str, now: datetime) -> None:
    """It counts again at once, and is told of by no alert: whoever did this knows."""
    _take_acceptance(row)
    row.save(update_fields=["accepted_by", "accepted_reason", "accepted_until"])
    FindingEvent.objects.create(finding=row, what=What.RETURNED, by=by, at=now)
