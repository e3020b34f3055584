"""How the console says outcomes, times, tokens and money: the same words and colours on every page."""

import math

from apps.execution.models import Outcome, Run

Label = tuple[str, str | None]  # words, and the colour of unfold's labels

OUTCOME_COLOURS = {
    Outcome.COMPLETED: "success",
    Outcome.REFUSED: "warning",
    Outcome.FAILED: "danger",
    Outcome.CANCELLED: None,
    Outcome.WAITING: "info",
}


def outcome_label(run: Run) -> Label:
    return run.get_outcome_display(), OUTCOME_COLOURS.get(Outcome(run.outcome))


def time_shown(milliseconds: float | None) -> str:
    """Milliseconds for people."""
    if milliseconds is None or not math.isfinite(milliseconds):
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds / 60_000:.1f} min"


def cost_shown(dollars: float | None) -> str:
    return "-" if dollars is None else f"${dollars:.6f}".rstrip("0").rstrip(".")
