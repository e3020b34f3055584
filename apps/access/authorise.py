"""Asking for a decision on behalf of a request: the policy in force now, one log line, and AccessDenied."""

import logging
from collections.abc import Sequence
from functools import lru_cache

import structlog
from prometheus_client import Counter

from apps.access.decide import Action, Decision, LimitState, Target, decide
from apps.access.models import DENIED
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Subject
from apps.core import clock
from apps.core.errors import AccessDenied
from apps.observability import error_ring
from apps.observability.metrics import REGISTRY

log = structlog.get_logger("agent.security")

_DECISIONS = Counter(
    "gateway_decisions",
    "Decisions about access, by what was wanted, how it ended and what decided.",
    ["action", "outcome", "code"],
    registry=REGISTRY,
)


_counter = lru_cache(maxsize=1000)(_DECISIONS.labels)  # the look-up by labels takes a lock and more than the counting


def authorise(subject: Subject, action: Action, target: Target, *, limits: Sequence[LimitState] = ()) -> Decision:
    """The decision of `decide` now, logged and counted. Raises AccessDenied with its reason."""
    decision = ask(subject, action, target, limits=limits)
    if not decision.allowed:
        raise AccessDenied(decision.reason, param="model" if target.agent else None)
    return decision


def ask(subject: Subject, action: Action, target: Target, *, limits: Sequence[LimitState] = ()) -> Decision:
    """The same, with a denial returned."""
    decision = decide(policy_in_force(), subject, action, target, at=clock.now(), limits=limits)
    outcome = "allowed" if decision.allowed else "denied"
    _counter(action.value, outcome, decision.code).inc()
    facts = {
        "action": action.value,
        "target": str(target),
        "outcome": outcome,
        "code": decision.code,
        "rule": decision.rule.id if decision.rule else "",
        "key_id": subject.key.id,
        "user": subject.user.id if subject.user else "",
    }
    level = logging.INFO if decision.allowed else logging.WARNING
    log.log(level, "agent.security.decision", stage=DENIED, **facts)
    if not decision.allowed:
        if target.agent:
            facts["agent"] = target.agent
        error_ring.note(
            DENIED,
            code=decision.code,
            message=decision.reason,
            subject=subject.key.name,
            remedy="Explain it, or override it for an hour, on the page Denials.",
            facts=facts,
        )
    return decision
