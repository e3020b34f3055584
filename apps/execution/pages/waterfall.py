"""A run's steps as a picture: rows in the order of a tree, bars on one time axis.

Pure: values in, values out. Steps come from a queue that may drop some, so a parent may be missing, an end unknown and
a clock odd; each is drawn as well as it can be, and said in words.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.execution.models import Run, RunStep, StepKind
from apps.execution.pages.shown import Label, time_shown
from apps.execution.turns import turns

DEEPEST = 8  # levels that are still indented
_TICKS = 5  # about so many

ICONS: Mapping[str, str] = {
    StepKind.AGENT: "smart_toy",
    StepKind.MODEL: "neurology",
    StepKind.TOOL: "construction",
    StepKind.HANDOFF: "alt_route",
    StepKind.GUARDRAIL: "shield",
    StepKind.APPROVAL: "approval",
}
_KINDS = dict(StepKind.choices)
_GOOD = frozenset({"ok", "cached", "approved"})
_MILD: Mapping[str, str | None] = {
    "cancelled": None,
    "denied": "warning",
    "limit": "warning",
    "missing": "warning",
    "refused": "warning",
    "tripped": "warning",
    "rejected": "warning",
    "waiting": "info",
}
# What a row says by itself; whatever else the detail holds is listed behind the fold.
_SAID = ("prompt_tokens", "completion_tokens", "estimated", "steps_left_out")


@dataclass(frozen=True, slots=True)
class Tick:
    left: float  # percent of the axis
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """Texts as the template takes them: a run may have hundreds of these."""

    number: str
    depth: str
    kind: str
    kind_said: str
    icon: str
    name: str
    turn: str  # of a model call: which of its conversation
    outcome: str  # "" where all is well
    colour: str  # of the outcome: danger, warning, info, success or plain
    bar: str  # CSS: where it stands on the axis
    look: str  # classes of the bar
    began: str
    took: str  # "" where no end is known
    tokens: str
    facts: tuple[tuple[str, str], ...]
    lost_parent: str  # the number of the step that it was made in, where that is missing
    error: str
    input: str
    output: str

    @property
    def fold(self) -> str:
        """What is behind the fold; "" where nothing is."""
        if self.input or self.output:
            return "Input and output"
        return "Details" if self.facts else ""


@dataclass(frozen=True, slots=True)
class Waterfall:
    rows: Sequence[Row]
    ticks: Sequence[Tick]
    tick_distance: float  # percent of the axis
    first_event: Tick | None
    path: Sequence[str]  # of agents, as the conversation went from one to the next
    gaps: int  # steps of which only the number is known
    left_out: int  # steps that came after as many as are kept of a run
    has_contents: bool


def waterfall(run: Run, steps: Sequence[RunStep]) -> Waterfall:
    """`steps` in the order of their numbers."""
    axis = _axis(run, steps)
    distance = _tick_distance(axis)
    of_calls = turns(steps)
    return Waterfall(
        rows=[_row(step, depth, axis, lost, of_calls.get(step.number)) for step, depth, lost in _tree(steps)],
        ticks=list(_ticks(axis, distance)),
        tick_distance=round(100 * distance / axis, 3),
        first_event=_first_event(run, axis),
        path=agents_path(run, steps),
        gaps=max((step.number for step in steps), default=0) - len(steps),
        left_out=_left_out(steps),
        has_contents=any(step.input or step.output for step in steps),
    )


def _left_out(steps: Sequence[RunStep]) -> int:
    """The last step that is kept says it."""
    said = steps[-1].detail.get("steps_left_out") if steps and isinstance(steps[-1].detail, dict) else None
    return said if isinstance(said, int) else 0


def agents_path(run: Run, steps: Sequence[RunStep]) -> list[str]:
    """The agents that had the conversation, in turn; those used as tools only lent a hand."""
    known = {step.number: step for step in steps}
    first = next((step.name for step in steps if step.kind == StepKind.AGENT), "")
    targets = [
        step.name
        for step in steps
        if step.kind == StepKind.HANDOFF and step.outcome in _GOOD and not _is_inside_tool(step, known)
    ]
    return [first or run.agent_id, *targets]


def _is_inside_tool(step: RunStep, known: Mapping[int, RunStep]) -> bool:
    above = _parent(step, known)
    while above is not None:
        if above.kind == StepKind.TOOL:
            return True
        above = _parent(above, known)
    return False


def _parent(step: RunStep, known: Mapping[int, RunStep]) -> RunStep | None:
    """A parent began before: any other number would lead in circles."""
    return known.get(step.parent) if step.parent is not None and step.parent < step.number else None


def _tree(steps: Sequence[RunStep]) -> Iterator[tuple[RunStep, int, int | None]]:
    """Each step with its depth and the number of its parent where that is missing; children follow their parent."""
    known = {step.number: step for step in steps}
    children: dict[int | None, list[RunStep]] = defaultdict(list)
    for step in steps:
        above = _parent(step, known)
        children[above.number if above else None].append(step)
    waiting = [(step, 0) for step in reversed(children[None])]
    while waiting:
        step, depth = waiting.pop()
        yield step, depth, step.parent if depth == 0 else None
        waiting.extend((one, depth + 1) for one in reversed(children[step.number]))


# --- time ------------------------------------------------------------------------------------------------------------


def _axis(run: Run, steps: Iterable[RunStep]) -> float:
    """Milliseconds; over 0."""
    ends = (_time(step.began_ms) + _time(step.duration_ms) for step in steps)
    return max(_time(run.duration_ms), *ends, 0.0) or 1.0


def _time(milliseconds: float | None) -> float:
    """As it can be drawn: clocks and databases let through what is no time."""
    return max(0.0, milliseconds) if milliseconds is not None and math.isfinite(milliseconds) else 0.0


def _tick_distance(axis: float) -> float:
    """Milliseconds: 1, 2 or 5 of whatever power of ten."""
    rough = axis / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)


def _ticks(axis: float, distance: float) -> Iterator[Tick]:
    for number in range(math.floor(axis / distance * 1.0001) + 1):
        yield Tick(round(100 * number * distance / axis, 2), _tick_text(number * distance, distance))


def _tick_text(at: float, step: float) -> str:
    if at == 0:
        return "0"
    if step >= 1000:
        return f"{at / 1000:.0f} s"
    if step >= 100:
        return f"{at / 1000:.1f} s"
    return f"{at:.0f} ms" if step >= 1 else f"{at:g} ms"


def _first_event(run: Run, axis: float) -> Tick | None:
    at = run.first_event_ms
    if at is None or not math.isfinite(at):
        return None
    return Tick(round(min(100.0, 100 * _time(at) / axis), 2), time_shown(at))


# --- one row ---------------------------------------------------------------------------------------------------------


def _row(step: RunStep, depth: int, axis: float, lost: int | None, turn: int | None) -> Row:
    began = _time(step.began_ms)
    left = min(100.0, 100 * began / axis)
    length = axis - began if step.duration_ms is None else _time(step.duration_ms)
    width = min(100 - left, 100 * length / axis)
    detail = step.detail if isinstance(step.detail, dict) else {}
    outcome, colour = outcome_label(step.outcome)
    bad, is_open = " run-bad" if colour == "danger" else "", " run-open" if step.duration_ms is None else ""
    return Row(
        number=str(step.number),
        depth=str(min(depth, DEEPEST)),
        kind=step.kind,
        kind_said=_KINDS.get(step.kind, step.kind),
        icon=ICONS.get(step.kind, "circle"),
        name=step.name or "(no name)",
        turn="" if turn is None else str(turn),
        outcome="" if outcome == "ok" else outcome,
        colour=colour or "plain",
        bar=f"left: {left:.2f}%; width: {width:.2f}%",
        look=f"{bad}{is_open}",
        began=time_shown(began),
        took="" if step.duration_ms is None else time_shown(_time(step.duration_ms)),
        tokens=tokens_shown(detail),
        facts=tuple(_facts(detail)),
        lost_parent="" if lost is None else str(lost),
        error=step.error,
        input=step.input,
        output=step.output,
    )


def outcome_label(outcome: str) -> Label:
    """Unknown words are failures: tools have many for what goes wrong."""
    if outcome in _GOOD:
        return outcome, "success"
    return outcome, _MILD.get(outcome, "danger")


def tokens_shown(detail: Mapping[str, Any]) -> str:
    sent, received = detail.get("prompt_tokens"), detail.get("completion_tokens")
    if sent is None and received is None:
        return ""
    return f"{'about ' if detail.get('estimated') else ''}{sent or 0} + {received or 0} tokens"


def _facts(detail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in detail.items():
        if name not in _SAID and value not in (None, "", 0, [], {}):
            yield str(name).replace("_", " "), str(value)
