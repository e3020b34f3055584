"""Numbers and lists of the dashboard, as people say them."""

from datetime import datetime, timedelta

from django.utils.timesince import timesince


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listed(*parts: str) -> str:
    """Those that are not empty, with commas."""
    return ", ".join(part for part in parts if part)


def percent(share: float | None) -> str:
    """Of a number from 0 to 1. What is not nothing is never shown as 0."""
    if share is None:
        return "-"
    hundredths = 100 * share
    if 0 < hundredths < 0.1:
        return "under 0.1 %"
    return f"{hundredths:.0f} %" if hundredths >= 10 or hundredths == 0 else f"{hundredths:.1f} %"


def short(number: float) -> str:
    """1,234 as it is, 3,789,000 as 3.8 million."""
    return f"{number / 1_000_000:.1f} million" if number >= 1_000_000 else f"{number:,.0f}"


def usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.4f}"


def lasting(since: datetime | None, now: datetime) -> str:
    """` for 5 minutes`; empty where it is not known, or less than a minute."""
    if since is None or now - since < timedelta(minutes=1):
        return ""
    return f" for {timesince(since, now, depth=1)}"
