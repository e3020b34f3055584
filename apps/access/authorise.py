"""Asking for a decision on behalf of a request: the policy in force now, one log line, and AccessDenied.

Of a key that is denied the same again and again, the log tells some: the metric and the error ring count them all.
"""

from functools import partial
from typing import Final

import structlog
from prometheus_client import Counter

from apps.access.decide import Action, Decision, Target, decide
from apps.access.models import DENIED
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Subject
from apps.core import clock
from apps.core.errors import AccessDenied
from apps.core.tally import Tally, is_one_of_few
from apps.observability import context, error_ring
from apps.observability.labels import Series, adder
from apps.observability.metrics import REGISTRY

log = structlog.get_logger("agent.security")

_DECISIONS = Counter(
    "gateway_decisions",
    "Decisions about access, by what was wanted, how it ended and what decided.",
    ["action", "outcome", "code"],
    registry=REGISTRY,
)

_counters: Final = Series(partial(adder, _DECISIONS), open=[])
_denials: Final = Tally()


def authorise(subject: Subject, action: Action, target: Target) -> Decision:
    """The decision of `decide` now, logged and counted. Raises AccessDenied with its reason."""
    decision = permit(subject, action, target)
    tell(subject, action, target, decision)
    return decision


def permit(subject: Subject, action: Action, target: Target) -> Decision:
    """The same for who has more to decide, as limits: what is allowed is told by them, with `tell`, when they have."""
    decision = decide(policy_in_force(), subject, action, target, at=clock.now())
    if not decision.allowed:
        tell(subject, action, target, decision)
        refused_at(target)
        raise AccessDenied(decision.reason, param="model" if target.agent else None)
    return decision


def ask(subject: Subject, action: Action, target: Target) -> Decision:
    """The same as `authorise`, with a denial returned."""
    decision = decide(policy_in_force(), subject, action, target, at=clock.now())
    tell(subject, action, target, decision)
    return decision


def tell(subject: Subject, action: Action, target: Target, decision: Decision) -> None:
    """Log and count a decision; a denial is also kept under Errors."""
    wanted, outcome = action.value, "allowed" if decision.allowed else "denied"
    _counters.of(wanted, outcome, decision.code)(1)
    facts = {
        "action": wanted,
        "target": str(target),
        "outcome": outcome,
        "code": decision.code,
        "rule": decision.rule.id if decision.rule else "",
        "key_id": subject.key.id,
        "user": subject.user.id if subject.user else "",
    }
    if target.agent:
        facts["agent"] = target.agent
    if decision.allowed:
        log.info("agent.security.decision", stage=DENIED, **facts)
        return
    if is_one_of_few(_denials.add(f"{subject.key.id} {action} {decision.code}")):
        log.warning("agent.security.decision", stage=DENIED, **facts)
    error_ring.note(
        DENIED,
        code=decision.code,
        message=decision.reason,
        subject=subject.key.name,
        remedy="Explain it, or override it for an hour, on the page Denials.",
        facts=facts,
    )


def refused_at(target: Target) -> None:
    """The request ends here: its line says so."""
    context.bind(stage=DENIED, **({"agent": target.agent} if target.agent else {}))
