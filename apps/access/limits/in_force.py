"""The limits that this process goes by: read from the database by live configuration, chosen in memory."""

from apps.access.limit_models import Limit
from apps.access.limits.rules import Book
from apps.core import clock, live_config


def _load() -> Book:
    return Book.of((limit.rule() for limit in Limit.objects.all().iterator()), loaded_at=clock.now())


_BOOK = live_config.section("access.limits", _load, reads=[Limit], fails_closed=True)


def limits_in_force() -> Book:
    """Reads memory only, once the process has loaded its first snapshot."""
    return _BOOK.current()
