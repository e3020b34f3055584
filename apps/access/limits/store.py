"""What counts. Two do: memory for one process, Redis for several."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from apps.access.limits.rules import Meter
from apps.access.limits.use import Use


class Past(NamedTuple):
    """What a meter counted before its store did: requests and tokens of this day, USD of this month."""

    meter: Meter
    requests: int
    tokens: int
    usd: float


class StoreDown(Exception):
    """The store does not answer. Nothing was counted, or nobody knows."""


class Store(Protocol):
    """Instants are seconds since 1970. Whatever talks to a server raises StoreDown."""

    async def take(self, meters: Sequence[Meter], at: float, lease: str) -> tuple[bool, Sequence[Use]]:
        """Count one request on all meters, or on none when any of them has a number that is used up.

        Atomic over all processes of the store. Told is how far each is used then. Until `settle`, the request holds
        a slot of concurrent runs under the name `lease`.
        """
        ...

    async def look(self, meters: Sequence[Meter], at: float) -> Sequence[Use]:
        """How far each is used; counts nothing."""
        ...

    async def settle(self, meters: Sequence[Meter], at: float, lease: str, tokens: int, usd: float) -> None:
        """Give the slot back, and count what the run used."""
        ...

    async def claim(self, limits: Iterable[int]) -> set[int]:
        """Those limits (by id) that were never counted here, and from now on are: whoever gets one has to `recall`."""
        ...

    async def recall(self, past: Iterable[Past], at: float) -> None:
        """Add what had been counted elsewhere."""
        ...

    async def look_after(self, held: Mapping[str, Sequence[Meter]], at: float) -> bool:
        """Called every few seconds: renew the leases that are held, drop what is over. False when all is gone."""
        ...

    async def close(self) -> None: ...
