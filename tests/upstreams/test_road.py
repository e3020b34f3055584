"""Calls to models over real HTTP, on servers that fail: who is asked, how often, and who answers in the end."""

import asyncio
import gc
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from apps.core import clock
from apps.core.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout, UpstreamUnreachable
from apps.upstreams import capacity, health, road, transport
from apps.upstreams.attempts import in_turn
from apps.upstreams.calls import CallLog, ModelCall, current_calls
from apps.upstreams.chat_stream import ChunkStream
from apps.upstreams.dialect import adapt
from apps.upstreams.health import State
from apps.upstreams.road import Opened
from apps.upstreams.routing import Candidate, Route, Target
from tests.fakes import faulty_upstream as fake
from tests.fakes.faulty_upstream import FaultyUpstream
from tests.upstreams.test_routing import target

BODY = {"messages": [{"role": "user", "content": "Hi"}]}
STREAMED = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
PATH = "/chat/completions"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


class Servers:
    """Real ones, one for each upstream of a test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.by_slug: dict[str, FaultyUpstream] = {}

    async def add(self, slug: str, **fields: Any) -> Target:
        server = self.by_slug[slug] = FaultyUpstream(slow=30)
        url = await self._stack.enter_async_context(server.serving())
        return target(slug, **{"base_url": url, "retries": 0, **fields})

    def asked(self) -> dict[str, int]:
        """How many requests each one got."""
        return {slug: server.stats.started for slug, server in self.by_slug.items()}

    async def wait_until_idle(self) -> None:
        async with asyncio.timeout(10):
            for server in self.by_slug.values():
                while server.stats.active:
                    await server.idle.wait()

    async def wait_until_left(self) -> None:
        await until(lambda: not any(server.stats.connections for server in self.by_slug.values()))


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    """Afterwards nothing is under way, no place is taken, and every connection has been given up."""
    async with AsyncExitStack() as stack:
        transport.open_session()
        made = Servers(stack)
        yield made
        await made.wait_until_idle()
        assert {slug: capacity.running_at(slug) for slug in made.by_slug} == dict.fromkeys(made.by_slug, 0)
        await transport.close_session()
        await made.wait_until_left()


@pytest.fixture
def log() -> CallLog:
    made = CallLog()
    current_calls.set(made)
    return made


def route(*choices: tuple[Target, str]) -> Route:
    candidates = [Candidate(of, model, order) for order, (of, model) in enumerate(choices)]
    first, *others = candidates
    return Route(first.target, first.model, others=tuple(others), first=first)


def refused(slug: str = "refused", **fields: Any) -> Target:
    return target(slug, base_url="http://127.0.0.1:9/v1", **{"retries": 0, **fields})


async def say(way: Route) -> str:
    """What a streamed chat says. Raises UpstreamError."""
    return await read(await road.open_chat(way, STREAMED))


async def read(opened: Opened) -> str:
    stream = ChunkStream(opened)
    said = ""
    try:
        async for chunk in stream:
            for choice in chunk.choices or ():
                said += (choice.delta and choice.delta.content) or ""
    except UpstreamError as error:
        error.add_note(said)
        raise
    finally:
        await stream.aclose()
    return said


async def say_whole(way: Route) -> str:
    data = (await road.ask_whole(way, PATH, BODY, adapt=adapt, timeout=5)).data
    return str(fake.json.loads(data)["choices"][0]["message"]["content"])


async def say_whole_of(way: Route, body: Any) -> road.Answered:
    return await road.ask_whole(way, PATH, body, adapt=adapt, timeout=5)


ANOTHER_ANSWERS = [
    "drops", "status-401", "status-403", "status-404", "status-500", "status-503", "text-error", "rate-limited",
    "rate-limited-once", "overloaded", "html", "error-first",
]  # fmt: skip


@pytest.mark.parametrize("fault", [*ANOTHER_ANSWERS, "garbage", "cut-at-once", "plain-text"])
async def test_another_upstream_answers_when_the_first_has_not_begun(
    servers: Servers, log: CallLog, fault: str
) -> None:
    first, second = await servers.add("first"), await servers.add("second")

    assert await say(route((first, fault), (second, "ok"))) == fake.TEXT

    assert servers.asked() == {"first": 1, "second": 1}
    assert log.calls == [ModelCall("second", "ok", 7, 5, estimated=False, finish_reason="stop")]
    assert health.record("first").counts.failed_over == 1


@pytest.mark.parametrize("fault", [*ANOTHER_ANSWERS, "garbage", "cut"])
async def test_another_upstream_gives_the_whole_answer(servers: Servers, log: CallLog, fault: str) -> None:
    first, second = await servers.add("first"), await servers.add("second")

    assert await say_whole(route((first, fault), (second, "ok"))) == fake.TEXT

    assert servers.asked() == {"first": 1, "second": 1}
    assert log.calls == [ModelCall("second", "ok", 7, 5, estimated=False, finish_reason="stop")]


@pytest.mark.parametrize("say", [say, say_whole])
async def test_another_upstream_answers_when_the_first_cannot_be_reached(servers: Servers, say: Any) -> None:
    second = await servers.add("second")

    assert await say(route((refused(retries=3), "m"), (second, "ok"))) == fake.TEXT

    assert health.record("refused").counts.retried == 0  # where another one can answer, that would be lost time
    assert health.standing("refused").state is State.DOWN


@pytest.mark.parametrize("fault", ["hang-at-once", "slow-headers"])
async def test_another_upstream_answers_when_the_first_does_not_begin_in_time(servers: Servers, fault: str) -> None:
    first, second = await servers.add("first", first_event_timeout=0.2, retries=3), await servers.add("second")

    assert await say(route((first, fault), (second, "ok"))) == fake.TEXT

    assert servers.asked() == {"first": 1, "second": 1}  # a time-out is not tried again


@pytest.mark.parametrize(
    ("fault", "status"), [("status-400", 400), ("status-413", 413), ("detail-error", 422), ("too-long", 400)]
)
async def test_what_the_caller_did_wrong_is_not_asked_elsewhere(servers: Servers, fault: str, status: int) -> None:
    first, second = await servers.add("first", retries=2), await servers.add("second")

    with pytest.raises(UpstreamRejected) as caught:
        await say(route((first, fault), (second, "ok")))

    assert (caught.value.status, servers.asked()) == (status, {"first": 1, "second": 0})
    assert health.standing("first").state is State.HEALTHY


@pytest.mark.parametrize(
    ("fault", "said", "code"),
    [
        ("cut", "Hello from the", "upstream_cut"),
        ("cut-clean", "Hello from the", "upstream_cut"),
        ("hang", "Hello from the", "upstream_silent"),
        ("error-in-stream", "Hello", "upstream_error"),
        ("error-line", "Hello", "upstream_error"),
        ("garbage-later", "Hello", "upstream_garbage"),
    ],
)
async def test_stream_that_has_begun_is_never_begun_again(
    servers: Servers, log: CallLog, fault: str, said: str, code: str
) -> None:
    patience = 0.5 if fault == "hang" else 30.0
    first = await servers.add("first", retries=3, silence_timeout=patience, max_concurrency=1)
    second = await servers.add("second")

    with pytest.raises(UpstreamError) as caught:
        await say(route((first, fault), (second, "ok")))

    assert (caught.value.code, caught.value.__notes__, servers.asked()) == (code, [said], {"first": 1, "second": 0})
    assert [(call.upstream, call.estimated) for call in log.calls] == [("first", True)]
    assert health.standing("first").state is State.DEGRADED


@pytest.mark.parametrize("say", [say, say_whole])
@pytest.mark.parametrize(
    ("fault", "retries", "asked"),
    [
        ("status-500", 2, 3),
        ("status-503", 1, 2),
        ("text-error", 1, 2),
        ("drops", 1, 2),
        ("status-500", 0, 1),
        ("rate-limited", 3, 1),  # it says 7 s: too long to keep a client waiting
        ("overloaded", 3, 1),
        ("status-400", 3, 1),
        ("status-401", 3, 1),
        ("status-404", 3, 1),
        ("html", 3, 1),
        ("garbage", 3, 1),
    ],
)
async def test_upstream_is_asked_again_where_that_may_help(
    servers: Servers, fault: str, retries: int, asked: int, say: Any
) -> None:
    one = await servers.add("one", retries=retries)

    with pytest.raises(UpstreamError):
        await say(route((one, fault)))

    assert (servers.asked(), health.record("one").counts.retried) == ({"one": asked}, asked - 1)


@pytest.mark.parametrize("say", [say, say_whole])
@pytest.mark.parametrize("fault", ["fails-once", "drops-once", "rate-limited-once"])
async def test_bad_moment_is_not_told(servers: Servers, log: CallLog, fault: str, say: Any) -> None:
    """The last of them asks for a second, which is waited for: nobody else can answer."""
    one = await servers.add("one", retries=1)

    assert await say(route((one, fault))) == fake.TEXT

    assert servers.asked() == {"one": 2}
    assert log.calls == [ModelCall("one", fault, 7, 5, estimated=False, finish_reason="stop")]


async def test_retries_end_with_the_patience_for_a_first_event(servers: Servers) -> None:
    one = await servers.add("one", retries=1_000_000, first_event_timeout=3.0)

    with pytest.raises(UpstreamError) as caught:
        await say(route((one, "status-500")))

    assert caught.value.answered == 500
    assert 2 <= servers.asked()["one"] <= 7  # after pauses of 0.1, 0.2, 0.4 ... s


@pytest.mark.parametrize(
    ("fault", "seconds"), [("rate-limited", (7, 7)), ("rate-limited-date", (20, 40)), ("overloaded", (20, 20))]
)
async def test_whoever_says_when_to_come_again_is_told(
    servers: Servers, fault: str, seconds: tuple[float, float]
) -> None:
    first, second = await servers.add("first"), await servers.add("second")

    with pytest.raises(UpstreamError) as caught:
        await say(route((first, fault), (second, "status-500"), (refused(), "m")))

    least, most = seconds
    assert least <= (caught.value.retry_after or 0) <= most
    assert "'first'" in caught.value.message


async def test_last_failure_is_told_where_nobody_says_when_to_come_again(servers: Servers, log: CallLog) -> None:
    first = await servers.add("first")

    with pytest.raises(UpstreamUnreachable) as caught:
        await say(route((first, "status-500"), (refused(), "m")))

    assert caught.value.message == "Upstream 'refused' cannot be reached: nothing listens there. Is the server started?"
    assert log.calls == [ModelCall("refused", "m", estimated=False)]


async def test_upstream_that_is_down_is_left_alone_until_its_cooldown_ends(servers: Servers) -> None:
    first, second = await servers.add("first", cooldown=600), await servers.add("second")

    assert await say(route((first, "status-401"), (second, "ok"))) == fake.TEXT
    assert await say(route((first, "ok"), (second, "ok"))) == fake.TEXT
    assert servers.asked() == {"first": 1, "second": 2}

    health.record("first").cooling_until = clock.now()
    assert await say(route((first, "ok"), (second, "ok"))) == fake.TEXT
    assert servers.asked() == {"first": 2, "second": 2}
    assert health.standing("first").state is State.DEGRADED  # it is back


async def test_upstream_that_is_down_is_asked_when_nobody_else_is_there(servers: Servers) -> None:
    one = await servers.add("one")

    for _ in range(3):
        with pytest.raises(UpstreamError):
            await say(route((one, "status-401")))

    assert servers.asked() == {"one": 3}
    assert await say(route((one, "ok"))) == fake.TEXT


async def test_trial_that_its_client_gives_up_leaves_the_way_free(servers: Servers) -> None:
    first, second = await servers.add("first", cooldown=0.0), await servers.add("second")
    await say(route((first, "status-401"), (second, "ok")))

    trial = asyncio.create_task(say(route((first, "hang-at-once"), (second, "ok"))))
    await until(lambda: servers.asked()["first"] == 2)
    assert await say(route((first, "ok"), (second, "ok"))) == fake.TEXT
    assert servers.asked() == {"first": 2, "second": 2}  # passed over while the trial goes on
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)

    assert await say(route((first, "ok"), (second, "ok"))) == fake.TEXT
    assert servers.asked() == {"first": 3, "second": 2}


def candidates(*orders: tuple[str, int, int], cooldown: float = 60) -> list[Candidate]:
    return [Candidate(target(slug, cooldown=cooldown), "m", order, weight) for slug, order, weight in orders]


def slugs(turns: Sequence[Candidate] | AsyncIterator[Candidate] | Any) -> list[str]:
    return [one.target.slug for one in turns]


def test_weights_draw_lots_within_an_order_alone() -> None:
    draw = Random(5).random
    choices = candidates(("a", 1, 3), ("b", 1, 1), ("c", 2, 1000))

    turns = [tuple(slugs(in_turn(choices, draw))) for _ in range(4000)]

    assert set(turns) == {("a", "b", "c"), ("b", "a", "c")}
    assert 2900 < turns.count(("a", "b", "c")) < 3100  # three of four


def test_those_that_cool_down_come_last_and_the_one_that_is_ready_first_before_them() -> None:
    down = UpstreamError("401", code="upstream_unauthorised")
    health.note_failure("a", down, cooldown=60)
    health.note_failure("b", down, cooldown=30)
    choices = candidates(("a", 1, 1), ("b", 2, 1), ("c", 3, 1))

    assert slugs(in_turn(choices)) == ["c", "b", "a"]
    assert slugs(in_turn(choices[:2])) == ["b", "a"]


async def test_full_queue_sends_the_call_to_the_next_upstream(servers: Servers, log: CallLog) -> None:
    first, second = await servers.add("first", max_concurrency=1, queue_size=0), await servers.add("second")
    busy = await road.open_chat(route((first, "ok")), STREAMED)

    assert await say(route((first, "ok"), (second, "ok"))) == fake.TEXT
    assert servers.asked() == {"first": 1, "second": 1}
    with pytest.raises(UpstreamBusy):
        await say(route((first, "ok")))
    assert [(call.upstream, call.model) for call in log.calls] == [("first", "ok"), ("second", "ok"), ("first", "ok")]

    assert await read(busy) == fake.TEXT
    assert await say(route((first, "ok"))) == fake.TEXT


async def _closes_early(opened: Opened) -> None:
    async for _ in opened.source:
        break
    await opened.source.aclose()


async def _never_reads(opened: Opened) -> None:
    await opened.source.aclose()


async def _forgets(_: Opened) -> None:
    gc.collect()


async def _reads_twice(opened: Opened) -> None:
    await read(opened)
    await opened.source.aclose()


@pytest.mark.parametrize("end", [_closes_early, _never_reads, _forgets, _reads_twice])
async def test_place_is_free_again_however_the_stream_ends(servers: Servers, end: Callable[[Opened], Any]) -> None:
    one = await servers.add("one", max_concurrency=1, queue_timeout=10.0)

    await end(await road.open_chat(route((one, "ok")), STREAMED))

    gc.collect()
    assert await say(route((one, "ok"))) == fake.TEXT
    assert capacity.running_at("one") == 0


@pytest.mark.parametrize("fault", ["hang-at-once", "hang"])
async def test_place_is_free_again_when_the_call_is_cancelled(servers: Servers, fault: str) -> None:
    one = await servers.add("one", max_concurrency=1, silence_timeout=20.0)
    task = asyncio.create_task(say(route((one, fault))))
    await until(lambda: servers.asked()["one"] == 1)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert capacity.running_at("one") == 0


async def test_reader_that_takes_its_time_makes_no_silence(servers: Servers) -> None:
    one = await servers.add("one", silence_timeout=0.5)

    opened = await road.open_chat(route((one, "flood")), STREAMED)  # more than is read ahead
    reads = 0
    async for _ in opened.source:
        reads += 1
        if reads <= 2:
            await asyncio.sleep(1)
    await opened.source.aclose()

    assert opened.source.is_complete


async def test_connections_serve_again(servers: Servers) -> None:
    one = await servers.add("one")

    for ask in [say, say_whole] * 10:
        await ask(route((one, "ok")))

    assert (servers.asked(), servers.by_slug["one"].stats.connections) == ({"one": 20}, 1)


async def test_many_calls_share_a_few_places(servers: Servers) -> None:
    one = await servers.add("one", max_concurrency=3, queue_size=100)

    said = await asyncio.gather(*(say(route((one, "ok"))) for _ in range(40)))

    assert said == [fake.TEXT] * 40
    assert servers.by_slug["one"].stats.started == 40


async def test_whole_answer_is_handed_on_as_it_came(servers: Servers, log: CallLog) -> None:
    one = await servers.add("one")

    answered = await road.ask_whole(route((one, "ok")), PATH, {**BODY, "model": "one/ok"}, adapt=adapt)

    assert fake.json.loads(answered.data)["object"] == "chat.completion"
    assert servers.by_slug["one"].last["body"] == {**BODY, "model": "ok"}
    assert log.calls == [answered.call] == [ModelCall("one", "ok", 7, 5, estimated=False, finish_reason="stop")]


async def test_whole_answer_without_usage_is_estimated(servers: Servers, log: CallLog) -> None:
    await road.ask_whole(route((await servers.add("one"), "no-usage")), PATH, BODY, adapt=adapt)

    (call,) = log.calls
    assert (call.estimated, call.completion_tokens) == (True, len(fake.TEXT) // 4)


async def test_whole_answer_that_is_given_up_has_used_its_prompt(servers: Servers, log: CallLog) -> None:
    one = await servers.add("one", max_concurrency=1)
    task = asyncio.create_task(road.ask_whole(route((one, "slow-headers")), PATH, BODY, adapt=adapt))
    await until(lambda: servers.asked()["one"] == 1)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert log.calls == [ModelCall("one", "slow-headers", prompt_tokens=8, estimated=True)]


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("hang", UpstreamTimeout, "Upstream 'one' did not answer within 0.2 s."),
        ("slow-headers", UpstreamTimeout, "Upstream 'one' did not answer within 0.2 s."),
        ("garbage", UpstreamError, "Upstream 'one' sent something that is not a JSON object: b'this is {not JSON'"),
        ("error-in-stream", UpstreamError, "Upstream 'one' failed instead of answering: The model crashed."),
    ],
)
async def test_whole_answer_that_fails_is_told_in_the_same_words(
    servers: Servers, fault: str, kind: type[UpstreamError], message: str
) -> None:
    one = await servers.add("one")

    with pytest.raises(kind) as caught:
        await road.ask_whole(
            route((one, fault)), PATH, BODY, adapt=adapt, timeout=0.2 if kind is UpstreamTimeout else 5
        )

    assert caught.value.message == message


async def test_built_in_demo_answers_without_a_server() -> None:
    demo = route((target("demo", kind="demo", base_url=""), "demo"))
    said = {"messages": [{"role": "user", "content": "[[say=Here I am.]]"}]}

    assert await read(await road.open_chat(demo, {**said, "stream": True})) == "Here I am."
    whole = await road.ask_whole(demo, PATH, said, adapt=adapt)
    assert fake.json.loads(whole.data)["choices"][0]["message"]["content"] == "Here I am."
    with pytest.raises(UpstreamRejected) as caught:
        await road.ask_whole(demo, "/embeddings", {"input": "Hi"}, adapt=lambda body, _: body)
    assert (caught.value.status, caught.value.message) == (404, "Upstream 'demo' says: The demo has no /embeddings.")


async def test_call_outside_of_a_served_loop_leaves_nothing_open(servers: Servers) -> None:
    """As a drop-in's own loop in a thread of its own does it: there is no session to share."""
    one = await servers.add("one")

    assert await asyncio.to_thread(lambda: asyncio.run(say(route((one, "ok"))))) == fake.TEXT


# --- below HTTP ------------------------------------------------------------------------------------------------------


def _certificate(folder: Path, name: str) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(clock.now() - timedelta(days=1))
    made = made.not_valid_after(clock.now() + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(private + made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


async def _understands_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As an HTTP server is greeted in TLS."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def _answers_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuses a body for its length, which it does not read."""
    await reader.readuntil(b"\r\n\r\n")
    said = json.dumps(fake.openai_error("Too much at once.", "invalid_request_error")).encode()
    writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()


@pytest.mark.parametrize("say", [say, say_whole])
async def test_certificate_of_another_name_is_told_as_such(servers: Servers, tmp_path: Path, say: Any) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=_certificate(tmp_path, "elsewhere.test"))
    async with server:
        there = target("tls", base_url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", retries=0)
        with pytest.raises(UpstreamUnreachable, match="its certificate is not to be trusted"):
            await say(route((there, "m")))


async def test_server_without_tls_is_told_as_such(servers: Servers) -> None:
    server = await asyncio.start_server(_understands_nothing, "127.0.0.1", 0)
    async with server:
        there = target("tls", base_url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", retries=0)
        with pytest.raises(UpstreamUnreachable, match="Should its base URL begin with http://"):
            await say(route((there, "m")))


@pytest.mark.parametrize("ask", [road.open_chat, say_whole_of])
async def test_answer_that_comes_before_the_request_was_read_is_heard(servers: Servers, ask: Any) -> None:
    server = await asyncio.start_server(_answers_at_once, "127.0.0.1", 0)
    async with server:
        there = target("hasty", base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", retries=0)
        body = {"messages": [{"role": "user", "content": "x" * 20_000_000}], "stream": ask is road.open_chat}
        with pytest.raises(UpstreamRejected, match="Too much at once"):
            await ask(route((there, "m")), body)


@pytest.mark.parametrize("fault", ["again-never", "again-odd"])
async def test_time_to_come_again_may_be_nonsense(servers: Servers, fault: str) -> None:
    there = await servers.add("there")

    with pytest.raises(UpstreamRejected) as caught:
        await say(route((there, fault)))

    assert caught.value.retry_after == (365 * 86_400 if fault == "again-never" else None)
    assert health.standing("there").state is State.DEGRADED


@pytest.mark.parametrize("say", [say, say_whole])
async def test_answer_that_unpacks_to_a_gigabyte_is_not_unpacked(servers: Servers, say: Any) -> None:
    there = await servers.add("there", first_event_timeout=30.0)

    with pytest.raises(UpstreamError, match="of over 33554432 bytes"):
        await say(route((there, "gzip-bomb")))
