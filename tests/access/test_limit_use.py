"""Windows of time, and what clients are told: arithmetic."""

from datetime import UTC, datetime

import pytest

from apps.access.decide import duration
from apps.access.limits.rules import LimitRule, Meter, Per
from apps.access.limits.use import Use, gauges, headers, windows


def at(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("instant", "ends"),
    [
        (at(2026, 11, 25, 14, 30, 59), [at(2026, 11, 25, 14, 31), at(2026, 11, 26), at(2026, 12, 1)]),
        (at(2026, 12, 31, 23, 59, 59), [at(2027, 1, 1)] * 3),
        (at(2028, 2, 29), [at(2028, 2, 29, 0, 1), at(2028, 3, 1), at(2028, 3, 1)]),
    ],
)
def test_calendar_windows_end_with_the_clock_of_utc(instant: float, ends: list[float]) -> None:
    now = windows(instant)

    assert [now.minute_ends, now.day_ends, now.month_ends] == ends


def test_windows_differ_from_the_second_on_that_they_begin() -> None:
    before, after = windows(at(2026, 12, 31, 23, 59, 59)), windows(at(2027, 1, 1))

    assert (after.minute - before.minute, after.day - before.day, after.month - before.month) == (1, 1, 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0171, "18ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s"), (3600, "1h0m0s"), (86_399, "23h59m59s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def told(numbers: tuple[float | None, ...], *used: float, second_from: float = 0, minute_from: float = 0) -> list[str]:
    instant = at(2026, 11, 25, 23, 59, 30)
    meter = Meter("3:5", LimitRule(3, Per.KEY, numbers))
    states = [one.state for one in gauges([meter], [Use(used, second_from, minute_from)], instant)]
    return [f"{one.name} {one.used:g}/{one.limit:g} {one.unit} {one.resets_in:g}" for one in states]


def test_each_number_is_told_with_its_window() -> None:
    instant = at(2026, 11, 25, 23, 59, 30)

    lines = told(
        (2, 10, 100, 3, 1000, 5000, 9.5), 1, 4, 50, 2, 10, 20, 1.25,
        second_from=instant - 0.25, minute_from=instant - 40,
    )  # fmt: skip

    assert lines == [
        "limit-3: per second and key 1/2 requests 0.75",
        "limit-3: per minute and key 4/10 requests 20",
        "limit-3: per day and key 50/100 requests 30",
        "limit-3: at once and key 2/3 runs 1",
        "limit-3: per minute and key 10/1000 tokens 30",
        "limit-3: per day and key 20/5000 tokens 30",
        f"limit-3: per month and key 1.25/9.5 USD {5 * 86_400 + 30}",
    ]


def test_numbers_that_limit_nothing_are_not_told() -> None:
    assert told((None,) * 7, 1, 2, 3, 4, 5, 6, 7) == []


def test_headers_tell_the_least_that_is_left_and_no_burst() -> None:
    wide = Meter("1:5", LimitRule(1, Per.KEY, (1, 100, 1000, 1, None, 90, 1.0)))
    tight = Meter("2:a", LimitRule(2, Per.AGENT, (None, 60, None, None, 80, None, None)))
    uses = [Use((0, 30, 30, 0, 10, 10, 0.5), 0, 1_800_000_000), Use((0, 30, 30, 0, 85, 85, 0.5), 0, 1_800_000_000)]

    assert headers([wide, tight], uses, 1_800_000_010) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "30",
        "x-ratelimit-reset-requests": "50s",
        "x-ratelimit-limit-tokens": "80",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "50s",
    }
