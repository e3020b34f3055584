"""One rule, checked: what it found, or why it did not. Whatever a rule does, the audit goes on.

It runs in a thread with a database connection of its own, so that one which hangs is left behind: nothing can end a
thread, and the process that holds it ends without waiting for it.
"""

import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from time import monotonic

import structlog
from django.db import connections

from apps.audits.models import RuleResult
from apps.audits.rule import Found, NotChecked, Rule

RULE_SECONDS = 120.0
_BEAT = 5.0  # seconds between two signs of life of the audit that waits

log = structlog.get_logger(__name__)
Outcome = RuleResult.Outcome


@dataclass(slots=True)
class Checked:
    """`found` is empty unless the outcome is `checked`; of equal subjects the first one counts."""

    rule: Rule
    outcome: Outcome
    found: tuple[Found, ...] = ()
    reason: str = ""
    seconds: float = 0.0


def check(rule: Rule, *, alive: Callable[[], None], within: float = RULE_SECONDS) -> Checked:
    """Returns after `within` seconds at the latest; `alive` is called every few seconds until then. Raises nothing of
    the rule's."""
    began = monotonic()
    results: list[Checked] = []
    work = partial(copy_context().run, lambda: results.append(_checked(rule)))  # its lines name the audit's task
    thread = threading.Thread(target=work, name=f"rule-{rule.id}", daemon=True)
    thread.start()
    while thread.is_alive() and (left := within - (monotonic() - began)) > 0:
        thread.join(min(_BEAT, left))
        alive()
    slow = Checked(rule, Outcome.FAILED, reason=f"It took longer than {within:g} s and was left alone.")
    result = results[0] if results else slow
    result.seconds = monotonic() - began
    return result


def _checked(rule: Rule) -> Checked:
    try:
        found = {one.subject: one for one in reversed(list(rule.check()))}
        return Checked(rule, Outcome.CHECKED, tuple(reversed(found.values())))
    except NotChecked as reason:
        return Checked(rule, Outcome.NOT_CHECKED, reason=str(reason))
    except Exception as error:  # a rule is anybody's code, and the others are to be checked all the same
        log.error("audit_rule_failed", rule=rule.id, exc_info=error)
        return Checked(rule, Outcome.FAILED, reason=f"{type(error).__name__}: {error}"[:2000])
    finally:
        connections.close_all()
