"""How each upstream fares, as this process sees it: by the calls that it made there, and by probes.

Record is a state machine over values, to which the instant is given; the functions below it keep one for each upstream.
Nothing here is stored: a worker that begins knows nothing, and learns from its first call.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog

from apps.core import clock
from apps.core.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamUnreachable
from apps.core.tally import Tally, is_told
from apps.observability import error_ring

log = structlog.get_logger("agent.upstreams")

REMEMBERED: Final = 10  # calls, of which the failures count
IN_A_ROW: Final = 3  # failures that take an upstream down
OF_THE_LAST: Final = 5  # failures of those remembered that do so, too
_QUIET = timedelta(seconds=30)  # without a failure, before it is healthy again
_LONGEST_REST = timedelta(seconds=60)  # that a server's Retry-After is followed for
_COOLDOWN: Final = 15.0  # seconds
_ALL: Final = (1 << REMEMBERED) - 1


class State(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"  # some of the last calls failed
    DOWN = "down"  # too many did, it cannot be reached, or it refuses the gateway's secret
    UNKNOWN = "unknown"  # nothing has been asked of it yet


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an upstream. `reason` is a sentence, empty while all is well; `since` is when the state began.

    Until `cooling_until` calls that have another choice pass it over.
    """

    state: State = State.UNKNOWN
    reason: str = ""
    since: datetime | None = None
    cooling_until: datetime | None = None
    failures: int = 0  # of the last REMEMBERED calls


@dataclass(slots=True)
class Counts:
    """Since the process began."""

    answered: int = 0  # attempts whose answer began
    failed: int = 0  # attempts that did not get that far, or broke off
    retried: int = 0  # attempts after the first of a call
    failed_over: int = 0  # calls that went on to another upstream
    cooldowns: int = 0


@dataclass(slots=True)
class Record:
    """Of one upstream. `failed` has a bit for each of the last calls, the newest lowest: 1 where it failed."""

    state: State = State.UNKNOWN
    reason: str = ""
    since: datetime | None = None
    cooling_until: datetime | None = None
    last_failure_at: datetime | None = None
    failed: int = 0
    is_unreached: bool = False  # the last failure was that it could not be reached
    has_trial: bool = False  # a call is trying whether it is back
    fingerprint: int = 0
    counts: Counts = field(default_factory=Counts)

    @property
    def is_spotless(self) -> bool:
        return self.failed == 0 and self.state is State.HEALTHY

    def standing(self, at: datetime) -> Standing:
        cooling = self.cooling_until if self.cooling_until and self.cooling_until > at else None
        return Standing(self.state, self.reason, self.since, cooling, self.failed.bit_count())

    def succeed(self, at: datetime) -> None:
        self.failed = self.failed << 1 & _ALL
        self.has_trial = False
        self.cooling_until = None
        quiet = self.last_failure_at is None or at - self.last_failure_at >= _QUIET
        if self.failed == 0 and quiet:
            self._become(State.HEALTHY, "", at)
        elif self.state is State.DOWN:
            self._become(State.DEGRADED, self.reason, at)

    def fail(
        self, error: UpstreamError, at: datetime, *, cooldown: float, has_begun: bool = False, is_away: bool = False
    ) -> None:
        """`has_begun`: it is the call that was noted as a success when its answer began. `is_away`: nobody is there."""
        self.failed = self.failed | 1 if has_begun else (self.failed << 1 | 1) & _ALL
        self.has_trial = False
        self.last_failure_at = at
        self.is_unreached = is_away or not error.reached
        repeated = self.failed & 0b111 == 0b111 or self.failed.bit_count() >= OF_THE_LAST
        if repeated or self.is_unreached or error.code == "upstream_unauthorised":
            self._cool(at + timedelta(seconds=cooldown))
            self._become(State.DOWN, error.message, at)
        elif self.state is not State.DOWN:
            self._become(State.DEGRADED, error.message, at)

    def rest(self, error: UpstreamError, at: datetime, *, cooldown: float) -> None:
        """The server has too much to do (429): it is up, and passed over for as long as it asks for."""
        self.has_trial = False
        self.last_failure_at = at
        asked = timedelta(seconds=cooldown if error.retry_after is None else error.retry_after)
        self._cool(at + min(asked, _LONGEST_REST))
        self._become(State.DEGRADED, error.message, at)

    def probed(self, error: UpstreamError | None, at: datetime) -> None:
        """A list of models that can be read says that the server is there, not that its models answer."""
        if error is not None:
            self.fail(error, at, cooldown=_COOLDOWN, is_away=isinstance(error, UpstreamUnreachable))
        elif self.state is not State.DOWN or self.is_unreached:
            self.succeed(at)

    def passes_over(self, at: datetime) -> bool:
        """Whether a call that has another choice leaves it alone. Else, if it is down, the call is its one trial."""
        if self.cooling_until is None and self.state is not State.DOWN:
            return False
        if self.has_trial or (self.cooling_until is not None and self.cooling_until > at):
            return True
        self.has_trial = self.state is State.DOWN
        return False

    def _cool(self, until: datetime) -> None:
        self.counts.cooldowns += 1
        self.cooling_until = until

    def _become(self, state: State, reason: str, at: datetime) -> None:
        if state is not self.state:
            self.since = at
        self.state, self.reason = state, reason


# --- those of this process -------------------------------------------------------------------------------------------

_records: dict[str, Record] = {}
_lines = Tally()


def record(slug: str) -> Record:
    """The one of that name; a new one knows nothing."""
    return _records.get(slug) or _records.setdefault(slug, Record())


def standing(slug: str) -> Standing:
    return _records[slug].standing(clock.now()) if slug in _records else Standing()


def standings() -> Mapping[str, Standing]:
    """Of all upstreams that something is known of."""
    at = clock.now()
    return {slug: one.standing(at) for slug, one in list(_records.items())}


def note_success(slug: str) -> None:
    """An answer has begun, or a server has said properly what is wrong with a request."""
    known = record(slug)
    known.counts.answered += 1
    if not known.is_spotless:
        _note(slug, known, known.succeed)


def note_failure(slug: str, error: UpstreamError, *, cooldown: float = _COOLDOWN, has_begun: bool = False) -> None:
    """An attempt failed, or with `has_begun` an answer broke off. What is no fault of the server counts for it."""
    known = record(slug)
    if isinstance(error, UpstreamBusy):
        known.has_trial = False  # it was not asked
    elif error.answered == 429 or error.status == 429:
        known.counts.failed += 1
        _note(slug, known, lambda at: known.rest(error, at, cooldown=cooldown))
    elif isinstance(error, UpstreamRejected):
        note_success(slug)
    else:
        known.counts.failed += 1
        _note(slug, known, lambda at: known.fail(error, at, cooldown=cooldown, has_begun=has_begun))


def note_probe(slug: str, error: UpstreamError | None) -> None:
    """What came of asking the server for its models; None when all went well."""
    known = record(slug)
    _note(slug, known, lambda at: known.probed(error, at))


def end_trial(slug: str) -> None:
    """A call was given up before anything was known."""
    record(slug).has_trial = False


def forget_changed(fingerprints: Mapping[str, int]) -> None:
    """Keep what is known of these upstreams alone, and of those whose fingerprint is another nothing but the counts."""
    for slug in set(_records) - fingerprints.keys():
        del _records[slug]
    for slug, fingerprint in fingerprints.items():
        known = record(slug)
        if known.fingerprint != fingerprint:
            _records[slug] = Record(fingerprint=fingerprint, counts=known.counts)


def _note(slug: str, known: Record, note: Callable[[datetime], None]) -> None:
    was = known.state
    note(clock.now())
    if known.state is was or (was, known.state) == (State.UNKNOWN, State.HEALTHY):
        return
    if known.state is State.DOWN:
        error_ring.note(
            "execute",
            code="upstream_down",
            subject=slug,
            message=known.reason,
            remedy="See whether the server runs, can be reached, and takes the API key: its page tells more.",
            facts={"upstream": slug},
        )
    if is_told(_lines.add(slug)):
        level = logging.INFO if known.state is State.HEALTHY else logging.WARNING
        state, reason = str(known.state), known.reason
        log.log(level, "upstream_state_changed", upstream=slug, state=state, was=str(was), reason=reason)
