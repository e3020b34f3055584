"""An audit: every rule checked, what it found written over what was known, alerts written with it.

One at a time, in whichever process: whoever begins has the claim `audit` and renews it while rules are checked. A
process that was killed renews it no more, and the next one that looks says so and begins again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from django.db import transaction

from apps.audits import claims, sizes
from apps.audits.alerts.outbox import tell_failed, tell_findings
from apps.audits.checking import RULE_SECONDS, Checked, check
from apps.audits.findings import write_found, write_gone
from apps.audits.models import AuditRun, Finding, RuleResult
from apps.audits.rule import Rule
from apps.audits.rules import all_rules
from apps.audits.time_limit import within_limit
from apps.core import clock

CLAIM = "audit"
KEPT = 400  # audits: a year of nights
SLOW = "The audit's page tells the seconds of each rule; `manage.py audit` has no limit."

Outcome = AuditRun.Outcome
log = structlog.get_logger(__name__)


class AlreadyRunning(Exception):
    """The message says since when, and by whom."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Told before a rule is checked (`result` is None) and after."""

    number: int
    of: int
    rule: Rule
    result: Checked | None = None


def _tell_nobody(_progress: Progress) -> None:
    pass


def audit(
    *,
    by: str,
    rules: Mapping[str, Rule] | None = None,
    only: Sequence[str] = (),
    is_repeat: bool = False,
    progress: Callable[[Progress], None] = _tell_nobody,
    rule_seconds: float = RULE_SECONDS,
) -> AuditRun:
    """Check `only` these rules, or all, and return the audit's row when it has ended.

    Raises AlreadyRunning. Whatever keeps the audit from its end is written into its row and raised.
    """
    known = all_rules() if rules is None else rules
    chosen = [known[id] for id in only] if only else list(known.values())
    holder = claims.new_holder()
    if not claims.take(CLAIM, holder=holder, seconds=claims.LEASE):
        raise AlreadyRunning(_who_runs())
    end_cut_off()
    run = AuditRun.objects.create(
        by=by,
        is_whole=not only,
        is_repeat=is_repeat,
        started_at=clock.now(),
        rules=len(chosen),
        sizes={} if only else sizes.measured(),
    )
    log.info("audit_started", audit=run.pk, by=by, rules=len(chosen))
    try:
        with within_limit(SLOW):
            _check_all(run, chosen, holder, progress, rule_seconds)
        if run.is_whole:
            _let_go(run, known)
        failed = run.results.filter(outcome=RuleResult.Outcome.FAILED).values_list("rule", "reason")
        _end(run, "; ".join(f"the rule {rule} failed: {reason}" for rule, reason in failed))
    except BaseException as error:  # also the time limit's, and Ctrl-C
        if run.outcome == Outcome.RUNNING:
            _end(run, f"It did not come to its end: {error or type(error).__name__}")
        raise
    finally:
        claims.give_back(CLAIM, holder=holder)
    return run


def _who_runs() -> str:
    running = AuditRun.objects.filter(outcome=Outcome.RUNNING).first()
    if running and claims.is_held(CLAIM):
        return f"An audit is running, since {running.started_at:%H:%M:%S} UTC, by {running.by}."
    return "Another process begins an audit at this moment."


def _check_all(
    run: AuditRun, rules: Sequence[Rule], holder: str, progress: Callable[[Progress], None], seconds: float
) -> None:
    def alive() -> None:
        if not claims.renew(CLAIM, holder=holder, seconds=claims.LEASE):
            raise AlreadyRunning("Another process took this audit for dead, and began again.")

    for number, rule in enumerate(rules, start=1):
        AuditRun.objects.filter(pk=run.pk).update(current_rule=rule.id)
        progress(Progress(number, len(rules), rule))
        result = check(rule, alive=alive, within=seconds)
        alive()
        _record(run, result)
        progress(Progress(number, len(rules), rule, result))


@transaction.atomic
def _record(run: AuditRun, result: Checked) -> None:
    """What a rule found, the counts of the audit, and the alerts, or nothing of them."""
    now = clock.now()
    RuleResult.objects.create(
        run=run,
        rule=result.rule.id,
        title=result.rule.title,
        outcome=result.outcome,
        reason=result.reason,
        found=len(result.found),
        seconds=result.seconds,
    )
    if result.outcome == RuleResult.Outcome.CHECKED:
        told, gone = write_found(run, result.rule, result.found, now)
        run.checked += 1
        run.found += len(result.found)
        run.new += len(told)
        run.gone += len(gone)
    elif result.outcome == RuleResult.Outcome.NOT_CHECKED:
        run.not_checked += 1
    else:
        run.failed += 1
    run.save(update_fields=["checked", "not_checked", "failed", "found", "new", "gone"])


def _let_go(run: AuditRun, known: Iterable[str]) -> None:
    """The findings of rules that are no more, which nobody would ever look for again."""
    now = clock.now()
    with transaction.atomic():
        for row in Finding.objects.standing().exclude(rule__in=list(known)):
            write_gone(run, row, now, note="Its rule is no more.")
            run.gone += 1
        run.save(update_fields=["gone"])


def _end(run: AuditRun, error: str) -> None:
    run.outcome = Outcome.FAILED if error else Outcome.COMPLETED
    run.error, run.ended_at, run.current_rule = error[:4000], clock.now(), ""
    with transaction.atomic():
        run.save()
        told = Finding.objects.filter(events__run=run, events__what__in=("new", "back", "returned")).distinct()
        tell_findings(run, list(told.filter(accepted_until=None)))
        if error:
            tell_failed(run)
        AuditRun.objects.filter(pk__in=list(AuditRun.objects.values_list("pk", flat=True)[KEPT:])).delete()
    counts = {name: getattr(run, name) for name in ("found", "new", "gone", "not_checked", "failed")}
    tell = log.error if error else log.info
    tell("audit_finished", audit=run.pk, outcome=run.outcome, error=error, **counts)


# --- audits whose process ended before they did ----------------------------------------------------------------------


def end_cut_off() -> list[AuditRun]:
    """Those that still say they run. Call it with the claim, which proves that none does."""
    cut_off = list(AuditRun.objects.filter(outcome=Outcome.RUNNING))
    for run in cut_off:
        at = f" while it checked {run.current_rule}" if run.current_rule else ""
        _end(run, f"Its process ended{at}: it was stopped, or crashed.")
    return cut_off


def repeat_cut_off() -> AuditRun | None:
    """The audit that was made in the place of one whose process was killed; None where there was none. One that was
    itself a repetition, or of some rules only, is ended and not made again."""
    running = AuditRun.objects.filter(outcome=Outcome.RUNNING).first()
    if running is None or claims.is_held(CLAIM):
        return None
    if running.is_whole and not running.is_repeat:
        try:
            return audit(by=running.by, is_repeat=True)
        except AlreadyRunning:
            return None
    holder = claims.new_holder()
    if claims.take(CLAIM, holder=holder, seconds=claims.LEASE):
        end_cut_off()
        claims.give_back(CLAIM, holder=holder)
    return None
