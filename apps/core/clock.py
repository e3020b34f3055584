"""The time, in one replaceable place: expiry and limits are tested at a chosen instant."""

from datetime import UTC, datetime
from time import time


def now() -> datetime:
    return datetime.now(UTC)


def seconds() -> float:
    """Since 1970. Asking `now` for its timestamp takes several times as long."""
    return time()
