"""Charts of what ran: the values that static/console/dashboard.js draws, and the same in a sentence each."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import add
from typing import Any

from django.utils import timezone
from django.utils.dateformat import format as date

from apps.console.panels.history import DAY, Range, points
from apps.console.panels.words import counted, listed, percent, short, usd
from apps.execution.admin import time_shown
from apps.execution.buckets import Counts, Point

Values = list[float | int | None]  # None is a gap: nothing ran


@dataclass(frozen=True, slots=True)
class Line:
    """`colour` is a custom property of static/console/dashboard.css, without its `--chart-`."""

    name: str
    colour: str
    values: Values


@dataclass(frozen=True, slots=True)
class Chart:
    """`unit` says how its numbers are written: count, percent, ms or usd."""

    key: str
    title: str
    number: str
    summary: str
    kind: str  # bar: stacked; or line
    unit: str
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Charts:
    charts: list[Chart]
    labels: list[str]  # short, for the axis
    moments: list[str]  # whole, for a point
    zone: str

    def for_script(self) -> dict[str, Any]:
        """As JSON has it."""
        drawn = [{"key": one.key, "kind": one.kind, "unit": one.unit, "lines": [asdict(line) for line in one.lines]}
                 for one in self.charts]  # fmt: skip
        return {"labels": self.labels, "moments": self.moments, "charts": drawn}


def charts(of: Range, now: datetime, agent: str | None = None) -> Charts | None:
    """None where nothing ran."""
    found = points(of, now, agent)
    everything = reduce(add, (one.counts for one in found), Counts())
    if not everything.runs:
        return None
    drawn = [make(found, everything) for make in (_requests, _errors, _durations, _first_events, _tokens, _costs)]
    local = [timezone.localtime(one.began_at) for one in found]
    form = "H:i" if of.length <= DAY else "j M"
    zone = timezone.get_current_timezone_name()
    return Charts(drawn, [date(one, form) for one in local], [_moment(one, of.step) for one in local], zone)


def _moment(began_at: datetime, step: timedelta) -> str:
    return f"{date(began_at, 'D j M H:i')} to {date(began_at + step, 'H:i')}"


def _requests(found: Sequence[Point], all_: Counts) -> Chart:
    most = max(found, key=lambda one: one.counts.runs)
    summary = (
        listed(f"{_completed(all_):,} completed", _some(all_.failed, "failed"), _some(all_.refused, "refused"),
               _some(all_.cancelled, "cancelled"))
        + f". The most at {_at(most)}: {most.counts.runs:,}."
    )  # fmt: skip
    lines = [
        Line("Completed", "well", _values(found, _completed)),
        Line("Refused", "attention", _values(found, lambda one: one.refused)),
        Line("Cancelled", "idle", _values(found, lambda one: one.cancelled)),
        Line("Failed", "down", _values(found, lambda one: one.failed)),
    ]
    return Chart("requests", "Runs", f"{all_.runs:,}", summary, "bar", "count", lines)


def _completed(one: Counts) -> int:
    """Those that wait for an approval have ended well as far as they came."""
    return one.runs - one.failed - one.refused - one.cancelled


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}" if count else ""


def _errors(found: Sequence[Point], all_: Counts) -> Chart:
    worst = max(found, key=lambda one: (one.counts.failed_share or 0, one.counts.runs))
    summary = "None failed."
    if all_.failed:
        at_worst = f"{worst.counts.failed:,} of {worst.counts.runs:,}"
        summary = f"{all_.failed:,} of {all_.runs:,} failed. The highest share at {_at(worst)}: {at_worst}."
    shares = _values(found, lambda one: None if one.failed_share is None else 100 * one.failed_share)
    number = percent(all_.failed_share)
    return Chart("errors", "Error rate", number, summary, "line", "percent", [Line("Failed", "down", shares)])


def _durations(found: Sequence[Point], all_: Counts) -> Chart:
    half, most = time_shown(all_.percentile(0.5)), time_shown(all_.percentile(0.95))
    lines = [
        Line("p50: half of the runs", "first", _values(found, lambda one: one.percentile(0.5))),
        Line("p95: 95 of 100", "second", _values(found, lambda one: one.percentile(0.95))),
    ]
    summary = f"Half of the runs took at most {half}, 95 of 100 at most {most}."
    return Chart("durations", "Duration", f"{half} / {most}", summary, "line", "ms", lines)


def _first_events(found: Sequence[Point], all_: Counts) -> Chart:
    mean = time_shown(all_.mean_first_event_ms)
    slowest = max(found, key=lambda one: one.counts.mean_first_event_ms or 0)
    summary = "No run came to a first event."
    if all_.with_first_event:
        at_slowest = time_shown(slowest.counts.mean_first_event_ms)
        summary = (
            f"On average, of {counted(all_.with_first_event, 'run')}. The slowest at {_at(slowest)}: {at_slowest}."
        )
    lines = [Line("Mean", "first", _values(found, lambda one: one.mean_first_event_ms))]
    return Chart("first-events", "Time to first event", mean, summary, "line", "ms", lines)


def _tokens(found: Sequence[Point], all_: Counts) -> Chart:
    each = f"{all_.tokens / all_.runs:,.0f}"
    summary = f"{short(all_.prompt_tokens)} in, {short(all_.completion_tokens)} out; {each} a run on average."
    lines = [
        Line("In", "first", _values(found, lambda one: one.prompt_tokens)),
        Line("Out", "second", _values(found, lambda one: one.completion_tokens)),
    ]
    return Chart("tokens", "Tokens", short(all_.tokens), summary, "bar", "count", lines)


def _costs(found: Sequence[Point], all_: Counts) -> Chart:
    summary = "No model that was called has a price: enter them under Prices."
    if all_.cost_usd:
        dearest = max(found, key=lambda one: one.counts.cost_usd)
        each, most = usd(all_.cost_usd / all_.runs), usd(dearest.counts.cost_usd)
        summary = f"{each} a run on average. The most at {_at(dearest)}: {most}."
    lines = [Line("Cost", "third", _values(found, lambda one: one.cost_usd))]
    number = usd(all_.cost_usd) if all_.cost_usd else "-"
    return Chart("costs", "Cost", number, summary, "bar", "usd", lines)


def _values(found: Sequence[Point], value: Callable[[Counts], float | int | None]) -> Values:
    return [None if (number := value(one.counts)) is None else round(number, 6) for one in found]


def _at(point: Point) -> str:
    return date(timezone.localtime(point.began_at), "D j M H:i")
