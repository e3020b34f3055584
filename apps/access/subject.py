"""Who asks: a key, the person behind it, and where the request comes from. Values that know no framework."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Key(msgspec.Struct, frozen=True, dict=True):
    """What the hot path knows of a key. Nothing of it is a secret but `sealed_identity_secret`, which is encrypted."""

    id: int
    name: str
    owner: str = ""
    team_id: int | None = None
    may_chat: bool = True
    may_administer: bool = False
    expires_at: datetime | None = None
    revoked: bool = False
    ip_ranges: Sequence[str] = ()
    origins: Sequence[str] = ()
    trusts_identity_headers: bool = False
    sealed_identity_secret: str = ""

    def is_in_force(self, at: datetime) -> bool:
        return not self.revoked and (self.expires_at is None or at < self.expires_at)

    def admits_address(self, address: str) -> bool:
        """Whether a client at `address` may use it; an unknown address only when any may."""
        if not self.ip_ranges:
            return True
        try:
            client = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(client, "ipv4_mapped", None)  # how a dual-stack socket shows an IPv4 client
        return any((mapped or client) in network for network in self._networks)

    def admits_origin(self, origin: str) -> bool:
        return not self.origins or origin in self.origins

    @cached_property
    def _networks(self) -> tuple[Network, ...]:
        return tuple(networks(self.ip_ranges))


def networks(ranges: Iterable[str]) -> Iterable[Network]:
    """Raises ValueError for what is neither an address nor a range."""
    return (ipaddress.ip_network(one, strict=False) for one in ranges)


@dataclass(frozen=True, slots=True)
class EndUser:
    """A person behind a front end, as that told: `verified` by its signature, else by its word."""

    id: str
    email: str = ""
    name: str = ""
    role: str = ""
    verified: bool = False

    @property
    def label(self) -> str:
        return self.email or self.name or self.id


class Subject(msgspec.Struct, frozen=True):
    """Who asks. `address` is the client's, `origin` that of the web page that calls; both may be unknown."""

    key: Key
    user: EndUser | None = None
    address: str = ""
    origin: str = ""
