"""How an upstream fares, as a state machine over values: nothing is asked, nothing is waited for."""

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from apps.core.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout, UpstreamUnreachable
from apps.upstreams import health
from apps.upstreams.health import Record, Standing, State

START = datetime(2026, 1, 1, tzinfo=UTC)
FAILED = UpstreamError("It failed with status 500.")
SECRET = UpstreamError("It refused the secret.", code="upstream_unauthorised")
SLOW = UpstreamTimeout("It did not answer.")
LIMITED = UpstreamRejected("Slow down.", status=429, retry_after=20)
REFUSED = UpstreamUnreachable("Nothing listens there.")
REFUSED.reached = False


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def after(history: str, *, every: float = 1.0, cooldown: float = 15.0) -> Record:
    """Of calls that were answered (.), failed (x), broke off (b), were refused (r), or of which 401 (s) came; (p), (q)
    and (t) are probes that went well, found nobody, and waited in vain."""
    record = Record()
    for number, what in enumerate(history):
        now = at(number * every)
        match what:
            case ".":
                record.succeed(now)
            case "b":
                record.succeed(now)
                record.fail(FAILED, now, cooldown=cooldown, has_begun=True)
            case "p" | "q" | "t":
                record.probed({"p": None, "q": UpstreamUnreachable(REFUSED.message), "t": SLOW}[what], now)
            case _:
                record.fail({"x": FAILED, "r": REFUSED, "s": SECRET}[what], now, cooldown=cooldown)
    return record


@pytest.mark.parametrize(
    ("history", "state", "reason"),
    [
        ("", State.UNKNOWN, ""),
        (".", State.HEALTHY, ""),
        ("x", State.DEGRADED, FAILED.message),
        (".x", State.DEGRADED, FAILED.message),
        ("xx", State.DEGRADED, FAILED.message),
        ("xxx", State.DOWN, FAILED.message),
        ("bbb", State.DOWN, FAILED.message),  # it begins to answer every time, and never ends
        ("xx.", State.DEGRADED, FAILED.message),
        ("x.x.x.x.x", State.DOWN, FAILED.message),
        ("r", State.DOWN, REFUSED.message),
        ("s", State.DOWN, SECRET.message),
        ("r.", State.DEGRADED, REFUSED.message),  # it is back, and was away a moment ago
        ("x..........", State.DEGRADED, FAILED.message),  # the last failure is not long ago
        ("p", State.HEALTHY, ""),
        ("q", State.DOWN, REFUSED.message),
        ("t", State.DEGRADED, SLOW.message),
        ("ttt", State.DOWN, SLOW.message),
        ("qp", State.DEGRADED, REFUSED.message),
        ("sp", State.DOWN, SECRET.message),  # its list of models needs no secret
        ("xxxp", State.DOWN, FAILED.message),  # it has a list of models, and they do not answer
    ],
)
def test_state_follows_from_what_happened(history: str, state: State, reason: str) -> None:
    record = after(history)
    assert (record.state, record.reason) == (state, reason)


@pytest.mark.parametrize("back", [".", "p"])
def test_degraded_heals_when_the_failures_are_forgotten_and_long_ago(back: str) -> None:
    assert after("x" + back * 10, every=4).state is State.HEALTHY
    assert after("x" + back * 9, every=4).state is State.DEGRADED  # still among the last ten
    assert after("x" + back * 10, every=2).state is State.DEGRADED  # 20 s ago


def test_standing_tells_since_when_and_how_many_failed() -> None:
    record = after("..xxx", cooldown=15)

    assert record.standing(at(5)) == Standing(State.DOWN, FAILED.message, at(4), at(4 + 15), failures=3)
    assert record.standing(at(30)).cooling_until is None


def test_upstream_that_is_down_is_passed_over_until_its_cooldown_ends() -> None:
    record = after("xxx", cooldown=15)

    assert [record.passes_over(at(seconds)) for seconds in (2, 10, 16.9)] == [True] * 3
    assert not record.passes_over(at(17))


def test_one_call_at_a_time_tries_whether_it_is_back() -> None:
    record = after("xxx", cooldown=15)

    assert [record.passes_over(at(20)) for _ in range(3)] == [False, True, True]
    record.fail(FAILED, at(21), cooldown=15)
    assert [record.passes_over(at(seconds)) for seconds in (22, 36, 36)] == [True, False, True]
    record.succeed(at(37))
    assert [record.passes_over(at(38)) for _ in range(3)] == [False] * 3


def test_server_that_asks_for_a_rest_gets_it_and_no_trial() -> None:
    record = after(".")
    record.rest(LIMITED, at(1), cooldown=15)

    assert record.standing(at(2)) == Standing(State.DEGRADED, "Slow down.", at(1), at(21))
    assert [record.passes_over(at(seconds)) for seconds in (20, 21, 21)] == [True, False, False]


def test_rest_is_a_minute_at_most_and_a_cooldown_where_none_is_asked_for() -> None:
    record = Record()
    record.rest(UpstreamRejected("Tomorrow.", status=429, retry_after=86_400), START, cooldown=15)
    assert record.cooling_until == at(60)
    record.rest(UpstreamRejected("Later.", status=429), START, cooldown=15)
    assert record.cooling_until == at(15)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_caller_at_fault_leaves_the_upstream_healthy(status: int) -> None:
    health.note_failure("health", UpstreamRejected("No such model.", status=status))

    assert health.standing("health").state is State.HEALTHY


def test_upstream_without_a_free_place_was_not_asked() -> None:
    health.note_failure("health", UpstreamBusy("Busy."))

    assert health.standing("health") == Standing()


def test_change_of_address_or_secret_forgets_what_was_known() -> None:
    health.forget_changed({"health": 1, "other": 1})
    health.note_failure("health", SECRET)
    health.note_failure("other", SECRET)

    health.forget_changed({"health": 2, "other": 1})

    assert {slug: one.state for slug, one in health.standings().items()} == {
        "health": State.UNKNOWN, "other": State.DOWN,
    }  # fmt: skip
    assert health.record("health").counts.failed == 1  # counters never go back
    health.forget_changed({"health": 2})
    assert list(health.standings()) == ["health"]


def test_log_has_a_line_for_a_change_of_state_and_none_between() -> None:
    with capture_logs() as lines:
        health.note_success("health-log")
        for _ in range(5):
            health.note_failure("health-log", REFUSED)
        health.note_success("health-log")

    assert lines == [
        {
            "event": "upstream_state_changed",
            "log_level": "warning",
            "upstream": "health-log",
            "state": state,
            "was": was,
            "reason": REFUSED.message,
        }
        for state, was in (("down", "healthy"), ("degraded", "down"))
    ]
