"""The time, as one replaceable function: expiry and limits are tested at a chosen instant."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
