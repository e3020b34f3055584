"""The lists of the dashboard: which agents are busy, fail or are slow; what failed and what ran last."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from django.urls import NoReverseMatch, reverse

from apps.console.panels.matters import runs_of, url
from apps.console.panels.words import counted, percent
from apps.execution.admin import OUTCOME_COLOURS, time_shown
from apps.execution.buckets import Counts
from apps.execution.models import Outcome, Run
from apps.observability.models import ErrorEvent

TOP: Final = 5
LAST: Final = 8


@dataclass(frozen=True, slots=True)
class Top:
    """An agent in a list. `share` is its part of the first one's number, in percent, for a bar."""

    agent_id: str
    number: str
    share: int
    link: str


@dataclass(frozen=True, slots=True)
class TopList:
    title: str
    empty: str
    tops: list[Top]


@dataclass(frozen=True, slots=True)
class RecentRun:
    run: Run
    colour: str | None
    duration: str
    link: str


@dataclass(frozen=True, slots=True)
class Failure:
    event: ErrorEvent
    link: str  # empty where there is no page of it


def top_lists(by_agent: Mapping[str, Counts]) -> list[TopList]:
    """None where nothing ran."""
    if not by_agent:
        return []
    return [
        _top("Busiest", "Nothing ran.", by_agent, lambda one: one.runs, lambda one: counted(one.runs, "run")),
        _top(
            "Most failures", "Nothing failed.", by_agent, lambda one: one.failed,
            lambda one: f"{one.failed:,} of {one.runs:,} ({percent(one.failed_share)})", outcome="failed",
        ),
        _top(
            "Slowest", "Nothing ran.", by_agent, lambda one: one.percentile(0.95) or 0,
            lambda one: f"p95 {time_shown(one.percentile(0.95))}",
        ),
    ]  # fmt: skip


def _top(
    title: str,
    empty: str,
    by_agent: Mapping[str, Counts],
    rank: Callable[[Counts], float],
    number: Callable[[Counts], str],
    **of_runs: str,
) -> TopList:
    ranked = sorted(((rank(one), agent_id, one) for agent_id, one in by_agent.items()), key=lambda it: (-it[0], it[1]))
    best = [one for one in ranked[:TOP] if one[0] > 0]
    tops = [
        Top(agent_id, number(one), round(100 * value / best[0][0]), runs_of(agent_id, **of_runs))
        for value, agent_id, one in best
    ]
    return TopList(title, empty, tops)


def last_runs() -> list[RecentRun]:
    return [
        RecentRun(run, OUTCOME_COLOURS[Outcome(run.outcome)], time_shown(run.duration_ms), url("execution_run", run.pk))
        for run in Run.objects.order_by("-started_at")[:LAST]
    ]


def last_failures() -> Iterator[Failure]:
    """Equal ones are one, with a count."""
    for event in ErrorEvent.objects.defer("traceback", "facts").order_by("-last_at")[:LAST]:
        yield Failure(event, _page_of(event))


def _page_of(event: ErrorEvent) -> str:
    try:
        return url("observability_errorevent", event.pk)
    except NoReverseMatch:
        return ""


def all_failures() -> str:
    """The page of them all; empty where there is none."""
    try:
        return reverse("admin:observability_errorevent_changelist")
    except NoReverseMatch:
        return ""
