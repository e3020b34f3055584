"""Which hosts an HTTP tool may ask: a URL that a model fills in must not reach what only this machine can.

The address is judged where the connection is made, after the name was resolved: between a check and a connection of its
own a name may change its mind.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

from django.conf import settings

from apps.core import globs

# Beside what Python knows to be private, of this link, multicast, reserved or for documentation.
_FURTHER: Final = tuple(
    map(
        ip_network,
        [
            "168.63.129.16/32",  # Azure's platform, which answers its virtual machines alone
            "192.88.99.0/24",  # relays of 6to4
            "::/96",  # IPv4 in IPv6, before 2006
            "64:ff9b::/96",  # NAT64: whatever IPv4 address stands in it
            "64:ff9b:1::/48",
            "2001::/23",  # Teredo and other protocols
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing
            "fec0::/10",  # of a site
        ],
    )
)


class AddressRefused(OSError):
    """The connection would have gone to no public address."""

    def __init__(self) -> None:
        super().__init__("not a public address")


def is_public(address: str) -> bool:
    """Whether an address that a name was resolved to is one of the public internet. What is no address is not."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return _is_public(getattr(found, "ipv4_mapped", None) or found)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    return not any(address in network for network in _FURTHER)


def may_be_asked(host: str) -> bool:
    """Whether GATEWAY_TOOL_HOSTS has the host of a URL; any, where it has none."""
    allowed: list[str] = settings.GATEWAY_TOOL_HOSTS
    return not allowed or globs.matches(host.rstrip("."), allowed)


def public_socket(address_info: tuple[Any, ...]) -> socket.socket:
    """aiohttp's `socket_factory`. Raises AddressRefused."""
    family, kind, protocol, _, address = address_info
    if not is_public(address[0]):
        raise AddressRefused
    return socket.socket(family, kind, protocol)
