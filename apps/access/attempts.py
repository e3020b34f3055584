"""Guessing keys and passwords is slow, and leaves no flood of log lines: failures are counted for each client address.

Counted in this process and in memory, by the minute. Who presents a good key is never slowed, wherever it comes from.
"""

import asyncio
import ipaddress
from collections.abc import Mapping
from time import monotonic
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from apps.core.errors import TooManyAttempts, Unauthenticated
from apps.core.tally import Tally, is_told
from apps.observability import error_ring
from apps.observability.metrics import REGISTRY
from apps.observability.requests import leave_unlogged

log = structlog.get_logger("agent.security")

FREE: Final = 30  # failures of an address in a minute that are answered at once
LOGINS: Final = 10  # failures of an address with one user name in a minute
WAIT: Final = 0.5  # seconds
_MOST_WAITING: Final = 1000
_MOST_LINES: Final = 100  # in a minute, from however many addresses

_FAILURES = Counter(
    "gateway_authentication_failures",
    "Requests and logins that nobody stood behind, by reason: missing, unknown, expired, identity or password.",
    ["reason"],
    registry=REGISTRY,
)


_MESSAGES: Final = {
    "missing": "Requests came without a key.",
    "unknown": "Keys were presented that do not exist, or are revoked.",
    "expired": "Keys were presented that have expired.",
    "identity": "The signed person behind a key was not valid.",
    "password": "Passwords were wrong, or their users may not log in here.",
}


class Waiting:
    """Those who are kept waiting, of whom there are only so many at once."""

    def __init__(self, *, at_once: int = _MOST_WAITING, seconds: float = WAIT) -> None:
        self._at_once = at_once
        self._seconds = seconds
        self.number = 0

    async def wait(self) -> bool:
        """False when too many wait already, and this one does not."""
        if self.number >= self._at_once:
            return False
        self.number += 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.number -= 1
        return True


_by_address = Tally()
_logins = Tally()  # apart: a client with a wrong key must not lock the people out who share its address
_lines = Tally()
_waiting = Waiting()
_HELD_BACK = Gauge("gateway_authentication_waiting", "Failed attempts that are kept waiting.", registry=REGISTRY)
_HELD_BACK.set_function(lambda: _waiting.number)


# --- keys ------------------------------------------------------------------------------------------------------------


async def hold_back(environ: Mapping[str, str], error: Unauthenticated) -> None:
    """Count this failure, and return late when its address has had many; also leaves most of those out of the log."""
    count, told = _note(environ, error.reason)
    if not told:
        leave_unlogged()
    if count > FREE:
        await _waiting.wait()


def refuse_many(environ: Mapping[str, str], error: Unauthenticated) -> None:
    """The same where waiting would occupy a thread. Raises TooManyAttempts when the address has had many."""
    count, _ = _note(environ, error.reason)
    if count > FREE:
        raise _too_many() from error


# --- passwords -------------------------------------------------------------------------------------------------------


def refuse_login(environ: Mapping[str, str], username: str) -> None:
    """Raises TooManyAttempts while this address has failed too often, with this user name or altogether."""
    client = _client(environ)
    if _logins.of(client) >= FREE or _logins.of(_login(client, username)) >= LOGINS:
        raise _too_many()


def login_failed(environ: Mapping[str, str], username: str) -> None:
    """A password was wrong, or its user may not log in here."""
    _note(environ, "password")
    client = _client(environ)
    _logins.add(client)
    _logins.add(_login(client, username))


# --- both ------------------------------------------------------------------------------------------------------------


def _note(environ: Mapping[str, str], reason: str) -> tuple[int, bool]:
    """How many failures of the address there were in this minute, and whether the log tells of this one."""
    count = _by_address.add(_client(environ))
    _FAILURES.labels(reason).inc()
    told = is_told(count) and _lines.add() <= _MOST_LINES
    error_ring.note(
        "authenticate",
        code=reason,
        message=_MESSAGES.get(reason, "Somebody could not be authenticated."),
        remedy="One row for all addresses: the log line authentication_failed has them.",
        last={"address": environ.get("REMOTE_ADDR", "")},
    )
    if told:  # neither the credential nor the user name, where people type passwords by mistake
        log.warning("authentication_failed", address=environ.get("REMOTE_ADDR", ""), reason=reason, count=count)
    return count, told


def _client(environ: Mapping[str, str]) -> str:
    """The address, or the network of a host with IPv6, which has 2^64 addresses to come from."""
    address = environ.get("REMOTE_ADDR", "")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _login(client: str, username: str) -> str:
    return f"{client} {username.casefold()[:150]}"


def _too_many() -> TooManyAttempts:
    seconds = max(1, round(60 - monotonic() % 60))  # until the next minute begins
    return TooManyAttempts(
        f"Too many failed attempts from your address. Try again in {seconds} seconds.", retry_after=seconds
    )
