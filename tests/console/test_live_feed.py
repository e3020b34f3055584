"""What a live page is told of, and what comes of pages that read slowly or may read no longer: in this process."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from apps.console.live.consumer import LiveConsumer
from apps.console.live.routing import websockets
from apps.console.live.words import SENTENCES, line
from apps.core import live_config
from apps.observability import feed as feeds
from apps.observability.feed import KEPT, Kind, Ring, feed, kind_of
from tests.factories import ApiKeyFactory

log = structlog.get_logger("tests")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _feed() -> Iterator[None]:
    feed.start()
    yield
    feed.stop()


def told() -> list[dict[str, Any]]:
    return [dict(event) for event in feed.ring.after(0)]


def line_of(name: str) -> dict[str, Any]:
    return {"event": name, "level": "info", "timestamp": "2026-11-25T12:00:00Z", "run_id": "r1"}


def test_line_of_a_kind_is_told_with_its_facts_and_without_contents() -> None:
    log.info("tool_call_finished", tool="search", outcome="ok", input="a prompt", output="an answer", run_id="r1")
    log.warning("tool_crashed", tool="search", error="it said: a prompt", exc_info=ValueError("a prompt"))
    log.info("run_contents", input="a prompt", run_id="r1")
    log.info("of_no_interest", tool="search")
    log.info("agent.security.decision", outcome="allowed", target="default/plain")

    call, crash = told()

    assert {name: call[name] for name in ("kind", "tool", "outcome", "run_id")} == {
        "kind": "step", "tool": "search", "outcome": "ok", "run_id": "r1",
    }  # fmt: skip
    assert (crash["kind"], crash["level"]) == (Kind.PROBLEM, "warning")
    assert "a prompt" not in json.dumps([call, crash])


def test_long_and_odd_facts_are_cut_to_plain_ones() -> None:
    log.info("agents_refreshed", loaded=["a/b", "c/d"], failed=(), reason="x" * 5000, state=ValueError("v"))
    log.info(["no", "name"])
    (event,) = told()
    assert (event["loaded"], event["failed"], len(event["reason"]), event["state"]) == ("a/b, c/d", "", 300, "v")


def test_nothing_is_kept_where_nobody_could_read() -> None:
    feed.stop()
    log.info("agents_refreshed")
    feeds.tell("run_started", run_id="r1")
    assert feed.ring.last == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("run_raised", "run"), ("sdk_agent.failure", "step"), ("handoff", "step"), ("guardrail_tripped", "step"),
        ("request_finished", "request"), ("agents_refreshed", "discovery"), ("upstream_state_changed", "health"),
        ("agent.security.decision", "access"), ("configuration_changed", "configuration"), ("cache_missed", None),
    ],
)  # fmt: skip
def test_kind_is_by_how_the_name_begins(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_documentation_lists_the_kinds() -> None:
    table = (ROOT / "docs" / "live.md").read_text().partition("| kind |")[2].partition("| problem |")[0]
    listed = {kind: set(re.findall("`([^`]+)`", begins)) for kind, begins in re.findall(r"\| (\w+) \| (`.*) \|", table)}
    kinds = {kind.value: {begin for begin, of in feeds.KINDS.items() if of is kind} for kind in feeds.KINDS.values()}
    assert listed == kinds


def test_start_of_a_run_that_goes_on_outlives_the_ring() -> None:
    ring = Ring(kept=3)
    for name in ("run_started", "a", "b", "c", "d"):
        ring.add(line_of(name))
    assert [one["name"] for one in ring.after(0)] == ["run_started", "b", "c", "d"]
    ring.add(line_of("run_finished"))
    assert [one["name"] for one in ring.after(0)] == ["c", "d", "run_finished"]


def test_copy_of_a_ring_takes_each_event_once() -> None:
    ring, copy = Ring(), Ring()
    for name in "abcd":
        ring.add(line_of(name))
    for event in [*ring.after(0, most=3), *ring.after(1)]:
        copy.copy(event)
    assert [one["name"] for one in copy.after(0)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("name", "facts", "what", "is_bad"),
    [
        ("run_finished", {"outcome": "failed", "error_code": "upstream_timeout", "error": "Too slow."},
         "failed, upstream_timeout: Too slow.", True),
        ("tool_call_finished", {"tool": "search", "outcome": "timeout"}, "search: timeout", True),
        ("request_finished", {"method": "POST", "path": "/v1/chat/completions", "status": 404},
         "POST /v1/chat/completions → 404", True),
        ("upstream_state_changed", {"upstream": "llm", "state": "healthy"},
         "llm is healthy", False),
        ("upstream_state_changed", {"upstream": "llm", "state": "down", "reason": "Nothing listens."},
         "llm is down: Nothing listens.", False),
        ("mcp_tools_read", {"server": "files", "added": "a, b", "gone": "", "changed": "c"},
         "tools of MCP server files read, added a, b, changed c", False),
        ("configuration_written", {"table": "access.grant", "row": "3", "action": "update"},
         "configuration: update access.grant 3", False),
        ("mcp_server_nodded", {"server": "files"}, "MCP server nodded, server files", False),
        ("upstream_state_changed", {}, "upstream state changed", False),
        ("sdk_agent.failure", {"error": "No."}, "agent failed: No.", False),
        ("agent.security.decision", {"outcome": "denied", "action": "chat", "target": "a/b", "code": "no_grant"},
         "denied: chat a/b (no_grant)", True),
    ],
)  # fmt: skip
def test_event_in_words(name: str, facts: dict[str, Any], what: str, is_bad: bool) -> None:
    event = {"number": 1, "at": "2026-11-25T12:00:00Z", "kind": "run", "level": "info", "name": name, **facts}
    shown = line("w1", event)
    assert (shown.what, shown.is_bad) == (what, is_bad)


def test_every_sentence_is_of_an_event_that_there_is() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/systems/observability.md").read_text(), re.MULTILINE))
    assert set(SENTENCES) - listed == set()


@pytest.mark.django_db
def test_key_is_told_by_its_name_whatever_an_event_knows_of_it() -> None:
    key = ApiKeyFactory.create(name="Open WebUI")
    event = {"number": 1, "at": "2026-11-25T12:00:00Z", "kind": "step", "level": "info", "name": "tool_call_finished"}
    live_config.refresh()
    try:
        asked = [{"key_id": key.pk}, {"key_id": key.pk, "user": "ann"}, {"key_id": key.pk + 1}, {"key": "Told"}, {}]
        told = [line("w1", {**event, **facts}).key for facts in asked]
    finally:
        live_config.forget()
    assert told == ["Open WebUI", "Open WebUI (ann)", f"key {key.pk + 1}", "Told", ""]


# --- a page that is served -------------------------------------------------------------------------------------------


class Page:
    """The server's side of a WebSocket: it reads as slowly as the test wants."""

    def __init__(self, session: str) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.reads = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.scope = {
            "type": "websocket",
            "path": "/admin/live/feed/",
            "query_string": b"",
            "headers": [
                (b"host", b"localhost"),
                (b"origin", b"http://localhost"),
                (b"cookie", f"sessionid={session}".encode()),
            ],
        }

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await self.reads.wait()
        elif message["type"] == "websocket.close":
            await self._incoming.put({"type": "websocket.disconnect", "code": message["code"]})
        self.sent.append(message)

    async def receive(self) -> dict[str, Any]:
        return await self._incoming.get()

    async def leave(self) -> None:
        await self._incoming.put({"type": "websocket.disconnect", "code": 1001})

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(one["text"]) for one in self.sent if one["type"] == "websocket.send"]


async def until(is_so: Any) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  # what a test looks at sets no event
            await asyncio.sleep(0.01)


@pytest.fixture
def user() -> User:
    made = User.objects.create_user("operator", is_staff=True)
    made.user_permissions.add(Permission.objects.get(codename="view_run"))
    return made


@pytest.fixture
def session(user: User) -> str:
    client = Client()
    client.force_login(user)
    return str(client.cookies["sessionid"].value)


@pytest.mark.django_db(transaction=True)
async def test_page_that_reads_slowly_misses_the_oldest_and_is_told_how_many(session: str) -> None:
    page = Page(session)
    log.info("agents_refreshed")
    serving = asyncio.create_task(websockets(page.scope, page.receive, page.send))
    await until(lambda: page.sent)  # accepted; the first message waits for its reader
    await asyncio.sleep(0.2)
    for _ in range(3 * KEPT):
        log.info("agents_refreshed")

    page.reads.set()
    await until(lambda: sum(len(one["lines"]) for one in page.messages()) == KEPT + 1)

    assert sum(one["missed"] for one in page.messages()) == 2 * KEPT
    assert max(len(one["lines"]) for one in page.messages()) == 200
    await page.leave()
    await serving


@pytest.fixture
async def watched(session: str) -> AsyncIterator[Page]:
    """A page whose user is looked at again all the time, instead of once a minute."""
    page = Page(session)
    page.reads.set()
    page.scope["session"] = SessionStore(session)
    serving = asyncio.create_task(LiveConsumer.as_asgi(recheck_seconds=0.05)(page.scope, page.receive, page.send))
    await until(page.messages)
    yield page
    await page.leave()
    await serving


def closed(page: Page) -> list[int]:
    return [one["code"] for one in page.sent if one["type"] == "websocket.close"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda user: user.user_permissions.clear(), 4403),
        (lambda user: User.objects.filter(pk=user.pk).update(is_staff=False), 4403),
        (lambda user: User.objects.filter(pk=user.pk).update(is_active=False), 4401),
        (lambda user: (user.set_password("another one"), user.save()), 4401),
    ],
    ids=["permission", "staff", "active", "password"],
)
async def test_page_ends_when_its_user_may_watch_no_more(user: User, watched: Page, change: Any, code: int) -> None:
    await sync_to_async(change)(user)
    await until(lambda: closed(watched))
    assert closed(watched) == [code]
    count = len(watched.messages())
    log.info("agents_refreshed")
    await asyncio.sleep(0.3)
    assert len(watched.messages()) == count


@pytest.mark.django_db(transaction=True)
async def test_page_ends_with_its_session(session: str, watched: Page) -> None:
    await sync_to_async(SessionStore(session).delete)()
    await until(lambda: closed(watched))
    assert closed(watched) == [4401]
