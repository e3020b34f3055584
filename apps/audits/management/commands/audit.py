import difflib
import json
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audits.alerts.deliver import deliver_due
from apps.audits.auditing import AlreadyRunning, Progress, audit
from apps.audits.broken_agents import tell_of_broken
from apps.audits.models import AuditRun, Finding, RuleResult, at_least, severities
from apps.audits.rule import Severity
from apps.audits.rules import all_rules
from apps.core import clock, database

FOUND, FAILED = 1, 2  # exit statuses
_COLOURS = {"high": "ERROR", "medium": "WARNING", "low": "NOTICE"}


class Command(BaseCommand):
    help = (
        "Checks the rules of the audit, records and tells what they find. Exit status: 0 nothing, 1 findings of the "
        "severity asked for that nobody has accepted, 2 the audit failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rule", action="append", default=[], metavar="ID", help="only this one; may be repeated")
        parser.add_argument("--json", action="store_true", help="one JSON object on stdout, and no progress")
        parser.add_argument(
            "--min-severity", choices=[str(one) for one in Severity], default=str(Severity.LOW),
            help="findings below it are neither shown nor count for the exit status; default %(default)s",
        )  # fmt: skip
        parser.add_argument("--list", action="store_true", help="lists the rules, and checks none")

    def handle(self, *_args: Any, **options: Any) -> None:
        rules = all_rules()
        if options["list"]:
            for rule in rules.values():
                self.stdout.write(f"{rule.severity:<7} {rule.id:<32} {rule.title}")
            return
        for id in options["rule"]:
            if id not in rules:
                near = difflib.get_close_matches(id, rules, n=3, cutoff=0.4)
                hint = f"Did you mean {' or '.join(near)}?" if near else "--list lists them."
                raise CommandError(f"There is no rule {id}. {hint}", returncode=FAILED)
        try:
            database.refuse_unusable()
            run = audit(
                by="command", rules=rules, only=options["rule"],
                progress=lambda _: None if options["json"] else self._progress(_),
            )  # fmt: skip
        except (database.CannotBeUsed, AlreadyRunning) as error:
            raise CommandError(str(error), returncode=FAILED) from error
        tell_of_broken()
        deliver_due()
        found = _findings(run, options["min_severity"])
        is_open = [one for one in found if not one.is_accepted(clock.now())]
        self._print_json(run, found) if options["json"] else self._print(run, found, is_open)
        if run.outcome == AuditRun.Outcome.FAILED:
            raise SystemExit(FAILED)
        if is_open:
            raise SystemExit(FOUND)

    def _progress(self, progress: Progress) -> None:
        if progress.result is None:
            self.stderr.write(f"[{progress.number}/{progress.of}] {progress.rule.id} ... ", ending="")
            self.stderr.flush()
            return
        result = progress.result
        count = f"{len(result.found)} found" if result.found else "nothing"
        said = count if result.outcome == RuleResult.Outcome.CHECKED else str(result.outcome)
        self.stderr.write(said, self.style.ERROR if result.outcome == RuleResult.Outcome.FAILED else None)

    def _print(self, run: AuditRun, found: list[Finding], is_open: list[Finding]) -> None:
        for result in run.results.exclude(outcome=RuleResult.Outcome.CHECKED):
            self.stdout.write(f"{result.rule}: {result.outcome}. {result.reason}")
        width = max([len(one.subject) for one in found], default=0)
        for one in found:
            accepted = f" (accepted until {one.accepted_until:%Y-%m-%d})" if one not in is_open else ""
            severity = getattr(self.style, _COLOURS[one.severity])(f"{one.severity.upper():<7}")
            state = "" if accepted else one.state
            self.stdout.write(f"{severity} {state:<5} {one.subject:<{min(width, 40)}}  {one.message}{accepted}")
            self.stdout.write(f"{'':14}{'':<{min(width, 40)}}  {one.remedy}")
        self.stdout.write(_summary(run, is_open))

    def _print_json(self, run: AuditRun, found: list[Finding]) -> None:
        self.stdout.write(json.dumps(_values(run, found), indent=2, default=str))


def _findings(run: AuditRun, least: str) -> list[Finding]:
    """Those that stand, of the rules that this audit was of; the worst first."""
    rows = Finding.objects.standing().filter(severity__in=at_least(least))
    if not run.is_whole:
        rows = rows.filter(rule__in=list(run.results.values_list("rule", flat=True)))
    return sorted(rows, key=lambda one: (at_least(Severity.LOW).index(one.severity), one.rule, one.subject))


def _summary(run: AuditRun, is_open: list[Finding]) -> str:
    def parts() -> Iterator[str]:
        counts = [f"{count} {severity}" for severity, count in severities(one.severity for one in is_open).items()]
        yield f"{len(is_open)} {'finding' if len(is_open) == 1 else 'findings'} ({', '.join(counts)})"
        yield f"{run.new} new, {run.gone} gone"
        yield f"{run.checked} of {run.rules} rules checked"
        if run.error:
            yield run.error

    return "; ".join(parts()) + ("" if run.error.endswith(".") else ".")


def _values(run: AuditRun, found: list[Finding]) -> dict[str, Any]:
    now = clock.now()
    names = ("rule", "subject", "severity", "state", "message", "remedy", "link", "since", "accepted_until")
    return {
        "audit": run.pk,
        "outcome": run.outcome,
        "error": run.error,
        "rules": list(run.results.values("rule", "outcome", "reason", "found", "seconds")),
        "findings": [
            {**{name: getattr(one, name) for name in names}, "accepted": one.is_accepted(now)} for one in found
        ],
    }
