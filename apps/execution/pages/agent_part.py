"""How an agent's runs went, for its page: shares and times over a day and a week, bars over time, the last runs.

Two queries: the sums of ten minutes (RunBucket) and the last rows of an index. Nothing counts runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import add

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.http import urlencode

from apps.core import clock
from apps.execution.buckets import Counts, Point, series
from apps.execution.models import TOOK_MS, Run
from apps.execution.pages.shown import Label, outcome_label, time_shown

LAST = 10
_HOUR = timedelta(hours=1)
_SPANS = (("24 hours", 24, 1), ("7 days", 7 * 24, 6))  # words, hours, hours of a bar


@dataclass(frozen=True, slots=True)
class Bar:
    good: float  # percent of the highest
    failed: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    words: str
    runs: int
    failed: str
    is_alarming: bool
    p50: str
    p95: str
    bars: Sequence[Bar]

    @property
    def said(self) -> str:
        """The bars in words."""
        return "; ".join(bar.text for bar in self.bars if bar.good or bar.failed)


@dataclass(frozen=True, slots=True)
class LastRun:
    run: Run
    label: Label
    duration: str
    link: str


@dataclass(frozen=True, slots=True)
class AgentPart:
    spans: Sequence[Span]
    last: Sequence[LastRun]
    all_link: str
    failed_link: str


def agent_part(agent_id: str) -> AgentPart:
    now = clock.now()
    hours = series(now - timedelta(hours=_SPANS[-1][1]), now, _HOUR, agent_id)
    runs = reverse("admin:execution_run_changelist")
    return AgentPart(
        spans=[_span(words, hours[-length:], each) for words, length, each in _SPANS],
        last=[_last_run(run) for run in Run.objects.filter(agent_id=agent_id).order_by("-started_at")[:LAST]],
        all_link=f"{runs}?{urlencode({'agent': agent_id})}",
        failed_link=f"{runs}?{urlencode({'agent': agent_id, 'outcome__exact': 'failed'})}",
    )


def _span(words: str, hours: Sequence[Point], each: int) -> Span:
    all_together = _together(hours)
    groups = [hours[max(0, end - each) : end] for end in range(len(hours), 0, -each)][::-1]
    highest = max((_together(group).runs for group in groups), default=0) or 1
    return Span(
        words=words,
        runs=all_together.runs,
        failed=_share(all_together),
        is_alarming=bool(all_together.failed),
        p50=_percentile(all_together, 0.5),
        p95=_percentile(all_together, 0.95),
        bars=[_bar(group[0].began_at, _together(group), highest) for group in groups],
    )


def _together(points: Sequence[Point]) -> Counts:
    return reduce(add, (point.counts for point in points if point.counts.runs), Counts())


def _share(counts: Counts) -> str:
    if not counts.failed:
        return "none failed" if counts.runs else "-"
    percent = 100 * counts.failed / counts.runs
    return f"{percent:.1f} % failed" if percent >= 0.1 else f"{counts.failed} failed"


def _percentile(counts: Counts, q: float) -> str:
    milliseconds = counts.percentile(q)
    if milliseconds is None:
        return "-"
    return f"{time_shown(milliseconds)}{' or more' if milliseconds >= TOOK_MS[-1] else ''}"


def _bar(began_at: datetime, counts: Counts, highest: int) -> Bar:
    words = f"{counts.runs} run{'' if counts.runs == 1 else 's'}"
    failed = f", {counts.failed} failed" if counts.failed else ""
    return Bar(
        good=round(100 * (counts.runs - counts.failed) / highest, 1),
        failed=round(100 * counts.failed / highest, 1),
        text=f"{date_format(timezone.localtime(began_at), 'D H:i')}: {words}{failed}",
    )


def _last_run(run: Run) -> LastRun:
    link = reverse("admin:execution_run_change", args=[run.pk])
    return LastRun(run, outcome_label(run), time_shown(run.duration_ms), link)
