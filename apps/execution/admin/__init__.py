"""Runs and approvals in the console."""

from apps.execution.admin import approvals, runs  # noqa: F401  # register their pages
from apps.execution.pages.shown import OUTCOME_COLOURS, time_shown

__all__ = ["OUTCOME_COLOURS", "time_shown"]
