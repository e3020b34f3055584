"""Counting by the minute."""

from apps.core.tally import Tally, is_one_of_few, is_told


class Seconds:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 600.0

    def __call__(self) -> float:
        return self.now


def test_failures_are_counted_for_each_within_a_minute() -> None:
    seconds = Seconds()
    tally = Tally(seconds=seconds)

    counts = [tally.add("a"), tally.add("a"), tally.add("b")]
    seconds.now += 59.9
    counts.append(tally.add("a"))
    seconds.now += 0.2
    counts += [tally.of("a"), tally.add("a")]

    assert counts == [1, 2, 1, 3, 0, 1]


def test_memory_is_bounded_and_those_that_fail_on_are_kept() -> None:
    tally = Tally(remembered=3, seconds=Seconds())
    for who in ("a", "b", "c", "a", "d"):
        tally.add(who)

    assert [tally.of(who) for who in "abcd"] == [2, 0, 1, 1]


def test_ten_thousand_addresses_are_remembered_at_most() -> None:
    tally = Tally()
    for number in range(20_000):
        tally.add(str(number))

    assert len(tally._counts) == 10_000


def test_failures_with_a_log_line_are_the_first_and_the_powers_of_two() -> None:
    assert [count for count in range(1, 1000) if is_told(count)] == [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]


def test_of_what_somebody_known_did_a_hundred_have_a_log_line_first() -> None:
    told = [count for count in range(1, 1000) if is_one_of_few(count)]

    assert told == [*range(1, 101), 128, 256, 512]
