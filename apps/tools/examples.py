"""Functions that can be tools as they stand, and show how one is written.

Without GATEWAY_TOOL_MODULES this is the only module whose functions are taken.
"""

from datetime import date, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apps.tools.tool import CallFailed


def current_time(timezone: str = "UTC") -> str:
    """The time and date now, as ISO 8601.

    Args:
        timezone: Its name in the IANA database, such as Europe/Berlin.
    """
    try:
        return datetime.now(ZoneInfo(timezone)).isoformat(timespec="seconds")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CallFailed(f"'{timezone}' is no time zone. Name one such as Europe/Berlin.") from error


def days_between(
    first: Annotated[date, "Such as 2026-11-25."],
    second: Annotated[date, "Later than the first, or the number is negative."],
) -> int:
    """How many days lie between two dates."""
    return (second - first).days
