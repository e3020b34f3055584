"""What is kept of runs, and for how long, as operators set it: in memory."""

from dataclasses import dataclass
from typing import Final

from apps.core import live_config
from apps.execution.models import Recording


@dataclass(frozen=True, slots=True)
class RecordingRules:
    """Days are None where rows stay for ever. `characters` is how much is kept of an input or output; 0 for none."""

    keep_runs_days: int | None
    keep_steps_days: int | None
    characters: int


def rules_of(row: Recording) -> RecordingRules:
    return RecordingRules(
        keep_runs_days=row.keep_runs_days or None,
        keep_steps_days=row.keep_steps_days or None,
        characters=row.contents_characters if row.record_contents else 0,
    )


RULES: Final = live_config.section("recording", lambda: rules_of(Recording.row()), reads=[Recording])


def characters_kept() -> int:
    """0 in a process that has loaded no configuration: a command that runs an agent keeps nothing."""
    rules = RULES.loaded()
    return rules.characters if rules else 0
