"""What operators let the gateway load: rules over ids, imports that no module may have, and content that is approved.

Read as live configuration, and applied to what a scan found before anything of it is executed. None of it is a sandbox:
what may load runs with the gateway's rights (docs/modules.md).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from django.conf import settings
from django.db import DatabaseError

from apps.catalog import scan
from apps.catalog.diagnostics import Problem, problem
from apps.catalog.models import SHORT, ApprovedVersion, Effect, ModulePolicy, ModuleRule
from apps.core import globs, live_config

Approved = Mapping[str, frozenset[str]]  # digests by the ids of folders


@dataclass(frozen=True, slots=True)
class Rule:
    pattern: str
    effect: Effect
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """`rules` in the order in which they decide; `approved` is None unless the modules are locked."""

    rules: tuple[Rule, ...] = ()
    denied_imports: tuple[str, ...] = ()
    approved: Approved | None = None
    _rulings: dict[str, Rule | None] = field(default_factory=dict, init=False, compare=False, repr=False)

    def ruling(self, agent_id: str) -> Rule | None:
        """The rule that decides about a folder's id; None when no rule fits, which lets it load."""
        if agent_id not in self._rulings:  # asked of every folder twice a second
            self._rulings[agent_id] = next(self.fitting(agent_id), None)
        return self._rulings[agent_id]

    def fitting(self, agent_id: str) -> Iterator[Rule]:
        return (rule for rule in self.rules if globs.matches(agent_id, [rule.pattern]))

    def denial(self, agent_id: str, path: Path) -> Problem | None:
        """Why a rule keeps the folder out; None when none does."""
        rule = self.ruling(agent_id)
        if rule is None or rule.effect != Effect.DENY:
            return None
        because = f" ({rule.reason.rstrip('.')})" if rule.reason else ""
        remedy = "Delete that rule in the admin under Module rules, or add a more specific one that allows it."
        return scan.denied(agent_id, path, f"the rule that denies “{rule.pattern}” decides{because}", remedy)


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The more specific rule comes first, and of two that are as specific the one that denies."""
    return tuple(
        sorted(rules, key=lambda one: (globs.specificity(one.pattern), one.effect, one.pattern), reverse=True)
    )  # "deny" sorts after "allow"


def load_policy() -> Policy:
    """As the database and the environment have it now; `POLICY` is what is in force in this process."""
    row = ModulePolicy.row()
    rules = (Rule(pattern, Effect(effect), reason) for pattern, effect, reason in _rule_values())
    names = dict.fromkeys([*settings.GATEWAY_AGENT_DENIED_IMPORTS, *row.denied_imports])
    return Policy(in_order(rules), tuple(names), _approved() if is_locked(row) else None)


def is_locked(row: ModulePolicy | None = None) -> bool:
    return bool(settings.GATEWAY_AGENT_LOCKED or (row or ModulePolicy.row()).locked)


def _rule_values() -> Iterable[tuple[str, str, str]]:
    return ModuleRule.objects.values_list("pattern", "effect", "reason")


def _approved() -> Approved:
    digests: dict[str, set[str]] = {}
    for folder_id, digest in ApprovedVersion.objects.values_list("folder_id", "digest"):
        digests.setdefault(folder_id, set()).add(digest)
    return MappingProxyType({folder_id: frozenset(several) for folder_id, several in digests.items()})


POLICY = live_config.section(
    "catalog.modules", load_policy, reads=[ModuleRule, ModulePolicy, ApprovedVersion], fails_closed=True
)


def at_hand() -> Policy:
    """For a command that may run where there is no gateway: what the environment says, if there is no database.

    A database file that does not exist is not made by asking.
    """
    try:
        if live_config.has_database():
            return load_policy()
    except DatabaseError:
        pass
    return Policy((), tuple(settings.GATEWAY_AGENT_DENIED_IMPORTS), {} if settings.GATEWAY_AGENT_LOCKED else None)


def remark(rule: Rule, policy: Policy, folder_ids: Iterable[str]) -> str:
    """A sentence about a rule that decides about none of these folders; empty for one that decides."""
    fitting = sorted(id for id in folder_ids if globs.matches(id, [rule.pattern]))
    if not fitting:
        return "It fits no folder that is known now."
    here = Path()
    allow, deny = settings.GATEWAY_AGENT_DISCOVERY_ALLOWLIST, settings.GATEWAY_AGENT_DISCOVERY_DENYLIST
    open_ids = [id for id in fitting if not scan.denial_by_settings(id, here, allow, deny)]
    if not open_ids:
        return "It can never decide: the settings keep out all that it fits."
    if any(policy.ruling(id) == rule for id in open_ids):
        return ""
    others = [*dict.fromkeys(f"{one.effect} {one.pattern}" for id in open_ids if (one := policy.ruling(id)))]
    return f"More specific rules decide: {shortened(others)}."


def shortened(texts: Sequence[str], most: int = 3) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


class Gate:
    """Lets those folders of a scan pass that no rule keeps out. Not thread-safe: one caller at a time."""

    def __init__(self) -> None:
        self._known: tuple[scan.Scan, Policy, scan.Scan] | None = None

    def admitted(self, seen: scan.Scan) -> scan.Scan:
        """The scan without the folders that a rule keeps out, and with a problem for each of these.

        The same scan is answered with the same one, as long as the policy is.
        """
        policy = POLICY.current()
        if not policy.rules:
            return seen
        if not (self._known and self._known[0] is seen and self._known[1] is policy):
            self._known = seen, policy, _admitted(seen, policy)
        return self._known[2]


def _admitted(seen: scan.Scan, policy: Policy) -> scan.Scan:
    denials = {one.agent_id: denial for one in seen.folders if (denial := policy.denial(one.agent_id, one.path))}
    folders = tuple(one for one in seen.folders if one.agent_id not in denials)
    return scan.Scan(folders, (*seen.problems, *denials.items()))


def refusal(folder: scan.Folder, policy: Policy) -> Problem | None:
    """Why this one folder may not be loaded, by the settings, the rules, or the lock."""
    id, path = folder.agent_id, folder.path
    allow, deny = settings.GATEWAY_AGENT_DISCOVERY_ALLOWLIST, settings.GATEWAY_AGENT_DISCOVERY_DENYLIST
    denial = scan.denial_by_settings(id, path, allow, deny) or policy.denial(id, path)
    if denial or policy.approved is None:
        return denial
    digest = scan.digest(folder)
    return None if digest in policy.approved.get(id, ()) else not_approved(folder, digest)


def not_approved(folder: scan.Folder, digest: str, serves: str = "") -> Problem:
    """Of a folder that holds version `digest`, while the version `serves`, "" for none."""
    goes_on = f"version {serves[:SHORT]}, which is, serves" if serves else "none of its code was executed"
    return problem(
        "not_approved",
        f"Version {digest[:SHORT]} of {folder.agent_id} is not approved: {goes_on}.",
        "Review and approve it on the agent's page in the admin.",
        folder.path,
    )
