"""Which addresses an HTTP tool may reach, and which hosts it may name."""

import socket
from typing import Any

import pytest

from apps.tools.safe_hosts import AddressRefused, is_public, may_be_asked, public_socket

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1",
    "11.0.0.1", "169.253.255.255", "192.167.255.255", "198.17.255.255", "198.20.0.1", "203.0.114.1", "223.255.255.1",
    "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:82a::200e", "::ffff:8.8.8.8",
]  # fmt: skip

REFUSED = [
    # this host, this network
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "::", "::1",
    # private
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fd00::1", "fec0::1",
    # shared, of the link
    "100.64.0.1", "100.127.255.255", "169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1",
    # metadata of clouds
    "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    # multicast, broadcast, reserved, documentation, benchmarks
    "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "ff02::1", "ff0e::1", "192.0.2.1",
    "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "192.88.99.1", "192.0.0.1", "2001:db8::1",
    "3fff::1", "100::1", "5f00::1",
    # IPv4 in IPv6
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:0", "::ffff:7f00:1", "::7f00:1",
    "::127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "2002:7f00:1::",
    "2002:808:808::1", "2001::1", "2001:0:7f00:1::",
    # no addresses
    "", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "1.2.3.4.5", "::g",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_may_be_reached(address: str) -> None:
    assert is_public(address) is True


@pytest.mark.parametrize("address", REFUSED)
def test_other_address_is_refused(address: str) -> None:
    assert is_public(address) is False


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_no_socket_is_made_for_an_address_that_is_refused(family: socket.AddressFamily, address: str) -> None:
    with pytest.raises(AddressRefused):
        public_socket((family, socket.SOCK_STREAM, 6, "", (address, 80)))


def test_socket_is_made_for_a_public_address() -> None:
    made = public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80)))

    assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)
    made.close()


@pytest.mark.parametrize(
    ("globs", "host", "may"),
    [
        ([], "anything.example.com", True),
        (["api.example.com"], "api.example.com", True),
        (["api.example.com"], "API.Example.com.", True),
        (["api.example.com"], "api.example.com.evil.net", False),
        (["*.example.com"], "a.b.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "notexample.com", False),
    ],
)
def test_hosts_of_the_setting_may_be_asked(settings: Any, globs: list[str], host: str, may: bool) -> None:
    settings.GATEWAY_TOOL_HOSTS = globs

    assert may_be_asked(host) is may
