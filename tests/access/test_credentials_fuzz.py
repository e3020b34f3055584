"""Credentials that are none, in bulk: at the check itself, and over HTTP in every spelling. None is taken.

GATEWAY_FUZZ=10000 asks only that many of the check itself.
"""

import asyncio
import contextlib
import os
import random
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from urllib.parse import urlsplit

import pytest

from apps.access.authenticate import authenticate
from apps.access.keys import digest, issue_key
from apps.access.models import ApiKey
from apps.core import live_config
from apps.core.errors import Unauthenticated
from tests.conftest import write_source
from tests.factories import ApiKeyFactory
from tests.harness import GatewayServer, Template

AT_THE_CHECK = int(os.environ.get("GATEWAY_FUZZ", "1000000"))
OVER_HTTP = 20_000
SEED = 20261125

Random = random.Random
INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE access_apikey; --",
    '" OR ""="',
    "1) UNION SELECT digest FROM access_apikey --",
    "*",
    "%",
    "_" * 20,
    "agw_%",
    "null",
    "None",
    "undefined",
    "true",
    "[]",
    "{}",
    '{"$ne": null}',
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "../../etc/passwd",
    "admin",
    "Bearer",
    "Bearer Bearer",
    "Basic YWRtaW46YWRtaW4=",
    "sk-proj-0123456789",
]


# --- credentials that are none ---------------------------------------------------------------------------------------


def near_miss(key: str, rng: Random) -> str:
    """The real key with one thing wrong."""
    at = rng.randrange(len(key))
    other = rng.choice([one for one in string.ascii_letters + string.digits + "-_" if one != key[at]])
    return rng.choice(
        [
            key[:at],
            key[at + 1 :],
            key[:at] + key[at + 1 :],
            key[:at] + other + key[at + 1 :],
            key[:at] + other + key[at:],
            key + other,
            other + key,
            key * 2,
            key[::-1],
            key.upper(),
            key.swapcase(),
            f'"{key}"',
            f"{key},{key}",
            f"{key};",
            f"Bearer {key}",
            digest(key),
            digest(key).upper(),
            key[:at] + " " + key[at:] if at > 0 else f"x {key}",
        ]
    )


def random_text(rng: Random, alphabet: str = string.printable.strip()) -> str:
    return "".join(rng.choices(alphabet, k=rng.randrange(1, 80)))


def key_shaped(rng: Random) -> str:
    return f"agw_{rng.getrandbits(32):08x}_{''.join(rng.choices(string.ascii_letters + string.digits + '-_', k=43))}"


def over_long(key: str, rng: Random) -> str:
    return (key + random_text(rng)) * rng.choice([8, 50, 400])


def non_ascii(rng: Random) -> str:
    """As a server decodes a header's bytes: each is a character."""
    return bytes(rng.choices(range(0x80, 0x100), k=rng.randrange(1, 60))).decode("latin-1")


def wrong_credentials(key: str, rng: Random) -> Iterator[str]:
    """Without end; none of them is the key. The frequent ones are those that come close."""
    kinds: list[Callable[[], str]] = [
        *[lambda: near_miss(key, rng)] * 6,
        *[lambda: key_shaped(rng)] * 4,
        *[lambda: random_text(rng)] * 3,
        lambda: non_ascii(rng),
        lambda: rng.choice(INJECTIONS) + random_text(rng) * rng.randrange(2),
        lambda: key + non_ascii(rng),
    ]
    while True:
        # One in a hundred is long: a header of 20,000 characters costs as much as all the others.
        credential = over_long(key, rng) if rng.random() < 0.01 else rng.choice(kinds)()
        if credential.strip() != key:
            yield credential


Spelling = Callable[[str], dict[str, str]]
SPELLINGS: list[Spelling] = [
    lambda credential: {"HTTP_AUTHORIZATION": f"Bearer {credential}"},
    lambda credential: {"HTTP_AUTHORIZATION": f"bearer {credential}"},
    lambda credential: {"HTTP_AUTHORIZATION": f"BEARER   {credential}  "},
    lambda credential: {"HTTP_X_API_KEY": credential},
    lambda credential: {"HTTP_X_API_KEY": f"\t{credential} "},
    lambda credential: {"HTTP_AUTHORIZATION": f"Basic {credential}", "HTTP_X_API_KEY": credential},
    lambda credential: {"HTTP_AUTHORIZATION": f"Token {credential}"},
]


# --- at the check itself ---------------------------------------------------------------------------------------------


@pytest.fixture
def _fresh_keys() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


@pytest.mark.django_db
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_fresh_keys")
def test_no_wrong_credential_is_taken_by_the_check() -> None:
    _, key = issue_key("Real")
    ApiKeyFactory.create_batch(20)
    rng = random.Random(SEED)
    taken = []
    refused = 0

    for number, credential in enumerate(islice(wrong_credentials(key, rng), AT_THE_CHECK)):
        environ = SPELLINGS[number % len(SPELLINGS)](credential)
        try:
            authenticate(environ)
        except Unauthenticated:
            refused += 1
        else:
            taken.append(environ)

    assert (taken, refused) == ([], AT_THE_CHECK)


@pytest.mark.django_db
@pytest.mark.usefixtures("_fresh_keys")
def test_real_key_is_taken_in_every_spelling() -> None:
    row, key = issue_key("Real")

    found = [authenticate(spelling(key)).key.id for spelling in SPELLINGS[:-1]]

    assert found == [row.pk] * len(found)


@pytest.mark.django_db
@pytest.mark.usefixtures("_fresh_keys")
@pytest.mark.parametrize("field", ["digest", "previous_digest"])
def test_stored_digest_is_no_credential(field: str) -> None:
    """Whoever reads the table has no key. `previous_digest` is empty for a key that was never replaced."""
    row: ApiKey = issue_key("Real")[0]

    for spelling in SPELLINGS:
        with pytest.raises(Unauthenticated):
            authenticate(spelling(getattr(row, field)))


# --- over HTTP -------------------------------------------------------------------------------------------------------

CONNECTIONS = 1000  # each from an address of its own, so that none has so many failures that it has to wait
AT_ONCE = 50
MOST_LINES = 100  # a minute, of failures from however many addresses
HEADERS = [
    "Authorization: Bearer ",
    "authorization: bearer ",
    "AUTHORIZATION: BEARER ",
    "x-api-key: ",
    "X-API-KEY:",
    "Authorization: Token ",
]
CONTROL = [*range(1, 9), 11, 12, *range(14, 32), 127, 0]  # bytes that may not stand in a header; no line ends
PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("fuzz")
    write_source(folder / "agents" / "Plain", PLAIN)
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        yield server


class Client:
    """HTTP over a bare socket, which sends any bytes as a header."""

    def __init__(self, server: GatewayServer, address: str) -> None:
        place = urlsplit(server.url)
        self._server = place.hostname, place.port
        self._address = address
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, header: bytes) -> int:
        """The status of GET /v1/models with this header line."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._server, local_addr=(self._address, 0))
        self._writer.write(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await self._reader.readexactly(int(length or 0))
        if b"connection: close" in head:
            await self.close()
        return int(head.split(b" ", 2)[1])

    async def close(self) -> None:
        if self._writer:
            self._writer.close()
            with contextlib.suppress(OSError):  # the server closed it first
                await self._writer.wait_closed()
            self._writer = None


def one_line(credential: str) -> bytes:
    return credential.encode("utf-8").replace(b"\r", b" ").replace(b"\n", b" ")


async def guess(server: GatewayServer, number: int, seen: Counter[tuple[str, int]]) -> None:
    """As many wrong credentials as fall to one connection, every twentieth of them with illegal bytes."""
    rng = random.Random(SEED + number)
    client = Client(server, f"127.1.{number // 250}.{number % 250 + 1}")
    for credential in islice(wrong_credentials(server.key, rng), OVER_HTTP // CONNECTIONS):
        line, kind = rng.choice(HEADERS).encode() + one_line(credential), "legal"
        if rng.random() < 0.05:
            line, kind = line + bytes([rng.choice(CONTROL)]) + b"x", "illegal"
        seen[kind, await client.ask(line)] += 1
    await client.close()


async def use_good_key(server: GatewayServer, statuses: set[int], times: list[float]) -> None:
    client = Client(server, "127.2.0.1")
    while True:
        began = time.perf_counter()
        statuses.add(await client.ask(f"Authorization: Bearer {server.key}".encode()))
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.05)


@pytest.mark.timeout(300)
async def test_no_wrong_credential_is_taken_over_http_nor_floods_the_log(server: GatewayServer) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    statuses: set[int] = set()
    times: list[float] = []
    places = asyncio.Semaphore(AT_ONCE)

    async def in_turn(number: int) -> None:
        async with places:
            await guess(server, number, seen)

    began = time.monotonic()
    good = asyncio.create_task(use_good_key(server, statuses, times))
    await asyncio.gather(*(in_turn(number) for number in range(CONNECTIONS)))
    good.cancel()

    minutes = int(time.monotonic() // 60) - int(began // 60) + 1
    assert seen.total() == OVER_HTTP
    assert {status for kind, status in seen if kind == "legal"} == {401}
    assert {status for kind, status in seen if kind == "illegal"} <= {400, 401}
    assert (statuses, len(times) > 10, max(times) < 2) == ({200}, True, True)
    assert len(server.log(event="authentication_failed")) <= MOST_LINES * minutes
    assert len(server.log(event="request_finished", status=401)) <= MOST_LINES * minutes
    assert len([line for line in server.errors if "Invalid HTTP request" in line]) <= 14 * minutes
    assert server.log(level="error") == []
