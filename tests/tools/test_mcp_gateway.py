"""Microsoft's mcp-gateway, against a server of its contract: tests/fakes/mcp_gateway.py."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.core import live_config
from apps.core.models import ConfigVersion
from apps.tools import in_force
from apps.tools.mcp import adapters, pool
from apps.tools.mcp.adapters import ROUTER, listed_adapters
from apps.tools.mcp.calling import call
from apps.tools.mcp.failures import ServerDown
from apps.tools.mcp.rows import Refreshed
from apps.tools.models import McpServer, Tool, Transport
from apps.tools.tool import CallFailed, ToolOutput
from tests.fakes.mcp_gateway import Gateway, serving
from tests.tools.mcp_parts import ask, connected, server, soon

TOKEN = {"Authorization": "Bearer token"}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving("alpha", "beta") as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


def row(slug: str = "ms", url: str = "http://gw.example.com/", **fields: Any) -> McpServer:
    made = McpServer(slug=slug, transport=Transport.GATEWAY, url=url, **fields)
    made.secret_headers = TOKEN
    made.save()
    return made


# --- the contract ----------------------------------------------------------------------------------------------------


async def test_adapters_are_listed_with_the_router(gateway: Gateway) -> None:
    value = server(transport=Transport.GATEWAY, url=f"{gateway.url}/", headers=TOKEN)
    assert await listed_adapters(value) == ["alpha", "beta", ROUTER]


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("", {}, "answered 401. It wants a token: add an Authorization header."),
        ("", {"Authorization": "Bearer old"}, "answered 401. Its token is wrong or expired."),
        ("/elsewhere", TOKEN, "/elsewhere answered 404. Check the URL: MCP servers often live at /mcp."),
    ],
)
async def test_refused_list_is_told_with_its_remedy(
    gateway: Gateway, path: str, headers: dict[str, str], told: str
) -> None:
    with pytest.raises(ServerDown) as caught:
        await listed_adapters(server(transport=Transport.GATEWAY, url=gateway.url + path, headers=headers))
    assert str(caught.value).endswith(told)


@pytest.mark.parametrize("path", ["adapters/alpha/mcp", "mcp"])
async def test_session_stays_with_its_pod(gateway: Gateway, path: str) -> None:
    """Two pods take turns with requests that carry no session id; one of them has the session."""
    tool = "alpha_where" if "alpha" in path else "weather_where"
    async with connected(server(url=f"{gateway.url}/{path}", headers=TOKEN)) as box:
        pods = {(await ask(box, tool)).text for _ in range(6)}

    assert len(pods) == 1
    first, *rest = gateway.headers
    assert "mcp-session-id" not in first
    assert len({one["mcp-session-id"] for one in rest}) == 1


async def test_session_that_the_gateway_forgot_is_begun_anew(gateway: Gateway) -> None:
    async with connected(server(url=f"{gateway.url}/adapters/alpha/mcp", headers=TOKEN)) as box:
        await ask(box, "alpha_where")
        gateway.sessions.clear()
        box.look()
        await soon(lambda: len(gateway.sessions), 1)
        await soon(lambda: box.state, "connected")
        assert (await ask(box, "alpha_where")).text.startswith("alpha-")


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestStore:
    def test_every_adapter_becomes_a_server(self) -> None:
        parent = row(timeout=7, max_concurrency=3)

        assert adapters.store(parent.pk, ["alpha", ROUTER]) == Refreshed("ms", added=("ms-alpha", "ms-tools"))

        children = parent.adapters.values_list("slug", "url", "transport", "timeout", "max_concurrency")
        assert list(children) == [
            ("ms-alpha", "http://gw.example.com/adapters/alpha/mcp", "http", 7, 3),
            ("ms-tools", "http://gw.example.com/mcp", "http", 7, 3),
        ]

    def test_the_same_again_changes_nothing(self) -> None:
        parent = row()
        adapters.store(parent.pk, ["alpha", ROUTER])
        before = ConfigVersion.current()
        assert adapters.store(parent.pk, ["alpha", ROUTER]) == Refreshed("ms")
        assert ConfigVersion.current() == before

    def test_vanished_one_is_disabled_and_comes_back_as_it_was(self) -> None:
        parent = row()
        adapters.store(parent.pk, ["alpha", "beta"])
        assert adapters.store(parent.pk, ["beta"]) == Refreshed("ms", gone=("ms-alpha",))
        assert parent.adapters.get(slug="ms-alpha").enabled is False
        assert adapters.store(parent.pk, ["alpha", "beta"]) == Refreshed("ms", added=("ms-alpha",))
        alpha = parent.adapters.get(slug="ms-alpha")
        assert (alpha.enabled, alpha.gone_at) == (True, None)

    def test_one_that_an_operator_disabled_stays_so(self) -> None:
        parent = row()
        adapters.store(parent.pk, ["alpha"])
        parent.adapters.update(enabled=False)
        for names in ([], ["alpha"]):
            assert adapters.store(parent.pk, names) == Refreshed("ms")
        assert parent.adapters.get().enabled is False

    def test_names_are_free_and_short(self) -> None:
        McpServer(slug="ms-alpha", url="http://other/mcp").save()
        long = "a-very-long-name-of-an-adapter-indeed"
        done = adapters.store(row().pk, ["alpha", long])
        assert [len(one) <= 32 and one.startswith("ms-a") for one in done.added] == [True, True]
        assert "ms-alpha" not in done.added

    def test_tools_of_a_disabled_gateway_are_out_of_force(self) -> None:
        parent = row()
        adapters.store(parent.pk, ["alpha"])
        Tool(name="t", kind="mcp", server=parent.adapters.get(), remote_name="t").save()
        assert list(in_force.tools()) == ["t"]
        parent.enabled = False
        parent.save()
        live_config.forget()
        assert list(in_force.tools()) == []


# --- sync ------------------------------------------------------------------------------------------------------------


def sync(*names: str) -> list[str]:
    said = StringIO()
    call_command("sync_mcp", *names, stdout=said)
    return said.getvalue().splitlines()


@pytest.mark.django_db(transaction=True)
async def test_command_reads_adapters_and_their_tools(gateway: Gateway) -> None:
    await asyncio.to_thread(row, url=gateway.url)

    assert await asyncio.to_thread(sync) == [
        "ms: added ms-alpha, ms-beta, ms-tools",
        "ms-alpha: added ms-alpha_alpha_where",
        "ms-beta: added ms-beta_beta_where",
        "ms-tools: added ms-tools_weather_where",
    ]
    del gateway.pods["beta"]
    assert await asyncio.to_thread(sync, "ms") == [
        "ms: gone ms-beta",
        "ms-alpha: nothing has changed",
        "ms-tools: nothing has changed",
    ]
    gateway.token = "another"
    with pytest.raises(CommandError, match=r"^3 of 3 could not be read\.$"):
        await asyncio.to_thread(sync)
    states = await asyncio.to_thread(lambda: list(McpServer.objects.values_list("slug", "state")))
    assert states == [("ms", "down"), ("ms-alpha", "down"), ("ms-beta", "connected"), ("ms-tools", "down")]


@pytest.mark.django_db
def test_command_refuses_a_name_that_is_none() -> None:
    with pytest.raises(CommandError, match=r"^There is no MCP server 'nope'\.$"):
        call_command("sync_mcp", "nope")


@pytest.mark.django_db(transaction=True)
async def test_worker_finds_the_adapters_by_itself_and_follows_the_gateways_token(gateway: Gateway) -> None:
    parent = await asyncio.to_thread(row, url=gateway.url)
    await asyncio.to_thread(live_config.refresh)
    pool.current()
    try:

        async def told() -> ToolOutput:
            await asyncio.to_thread(live_config.refresh)
            try:
                return await call("ms-alpha", "alpha_where", {}, timeout=5)
            except CallFailed as failed:
                return ToolOutput(failed.message, is_error=True)

        async def until(expected: bool) -> str:
            async with asyncio.timeout(15):
                while (output := await told()).is_error != expected:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            return output.text

        assert (await until(False)).startswith("alpha-")

        gateway.token = "new"
        parent.secret_headers = {"Authorization": "Bearer new"}
        await asyncio.to_thread(parent.save)

        assert (await until(False)).startswith("alpha-")
        assert gateway.headers[-1]["authorization"] == "Bearer new"

        parent.enabled = False
        await asyncio.to_thread(parent.save)
        said = "its server 'ms-alpha' cannot be used. It is switched off, or not there any more."
        assert await until(True) == said
    finally:
        await pool.close()
