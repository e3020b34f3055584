"""What failures of agents are called in metrics: a few kinds, where diagnostics have a code for each."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from prometheus_client import Counter

from apps.catalog.diagnostics import CODES, Problem
from apps.observability.metrics import REGISTRY


class Kind(StrEnum):
    IMPORT = "import"  # the module does not run
    BLOCKED = "blocked"  # a rule, the import policy or the lock keeps it out
    VALIDATION = "validation"  # it runs, and what it offers cannot serve, or not as it is written
    TOOL_VIOLATION = "tool_violation"  # it names a tool that is not there, or called one that a rule denies


_OF_CODES: Mapping[Kind, tuple[str, ...]] = {
    Kind.IMPORT: (
        "dry_run_failed",
        "exited",
        "factory_failed",
        "hides_sdk",
        "import_error",
        "import_timeout",
        "missing_dependency",
        "missing_environment",
        "runs_at_import",
        "sdk_name_missing",
        "stopped_at_import",
        "syntax_error",
        "unreadable",
    ),
    Kind.BLOCKED: ("denied", "denied_import", "not_approved", "pin_failed"),
    Kind.TOOL_VIOLATION: ("tool_missing", "tools_missing"),
}
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(CODES, Kind.VALIDATION),
    **{code: kind for kind, codes in _OF_CODES.items() for code in codes},
}

_FAILURES = Counter(
    "gateway_agent_failures",
    "Versions of agents that this worker could not load, and calls of tools that a rule denied, by kind.",
    ["kind"],
    registry=REGISTRY,
)
for _kind in Kind:
    _FAILURES.labels(_kind.value)


def counted(kind: Kind) -> None:
    _FAILURES.labels(kind.value).inc()


def failed_to_load(problems: Iterable[Problem]) -> None:
    """A version was not loaded, for these reasons: once for each kind."""
    for kind in {KINDS[problem.code] for problem in problems if problem.is_error}:
        counted(kind)
