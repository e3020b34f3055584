"""The measurements: what is sent to whom, in which order, and what is read off."""

import asyncio
import http.client
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from tests.bench.clock import resident_mb
from tests.bench.processes import AGENT, DECLARED, KEY, LITELLM_KEY, LITELLM_MODEL, BenchFailed, Child

WORDS = 100  # of an ordinary answer: one chunk each
FEW, MANY = 50, 550  # words: what lies between the two is chunks alone
PACE = 0.002  # seconds between the chunks of an upstream that is not ready before it is asked
BARE = ("fast", "joined", "stock")  # what is run without the gateway: see bare.py
FEW_RULES, MANY_RULES = (10, 10), (100_000, 10_000)  # keys and rules of `access`
PASSED_AT_ONCE = 16  # whole answers, as those of the prototypes from which the target comes
CROWD, CROWD_WORDS, CROWD_PACE = 1000, 20, 0.5  # streams at once, words of each, seconds between them
CHAT = "/v1/chat/completions"
# Requests for each run asked for, of what costs a fraction of one: else what goes on beside them would count as theirs.
MODELS_PER_RUN = 10  # of /v1/models
PASSED_PER_RUN = 5  # whole answers of a model or of a declared agent

Batch = Mapping[str, float]
Rounds = list[dict[str, Batch]]
Ask = Callable[[], Awaitable[Batch]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How often. `requests` are the runs of a batch, `clients` how many are under way at once."""

    rounds: int
    requests: int
    clients: int


@dataclass(frozen=True, slots=True)
class Bench:
    """The processes that are up. Each measurement is a method of the name that `--only` takes."""

    effort: Effort
    load: Child
    gateway: Child
    floor: Child
    proxy: Child
    litellm: Mapping[str, Child]  # as it is, and equipped; empty where it is not there
    offered: str  # the id of the upstream's own model
    bare: Mapping[str, Child]
    crowded: Callable[[int, int], AbstractAsyncContextManager[Child]]

    async def models(self) -> Rounds:
        count = self.effort.requests * MODELS_PER_RUN
        return await self._interleave(
            {
                "gateway": lambda: self._list_models(self.gateway, count, needle=f'"{AGENT}"'),
                "floor": lambda: self._list_models(self.floor, count, needle="HTTP/1.1 200"),
            }
        )

    async def stream(self) -> Rounds:
        return await self._interleave(self._sides(WORDS, self.effort.requests, streamed=True))

    async def whole(self) -> Rounds:
        sides = self._sides(WORDS, self.effort.requests, streamed=False)
        del sides["joined"]
        return await self._interleave(sides)

    async def chunks(self) -> Rounds:
        count = max(self.effort.clients, self.effort.requests // 4)
        sides = {
            f"{side}-{words}": ask
            for words in (FEW, MANY)
            for side, ask in self._sides(words, count, streamed=True).items()
            if side in ("gateway", "fast")
        }
        return await self._interleave(sides)

    async def paced(self) -> Rounds:
        """Chunks that come one at a time, as from a real model: each wakes the process up and is written alone."""
        count = max(self.effort.clients, self.effort.requests // 4)
        sides = self._sides(WORDS, count, streamed=True, pace=PACE)
        del sides["joined"], sides["stock"]
        return await self._interleave(sides)

    async def pass_through(self) -> Rounds:
        """Whole answers of the upstream's own model."""
        return await self._interleave(
            self._passing(self.offered, WORDS, self.effort.requests * PASSED_PER_RUN, streamed=False)
        )

    async def forwarded(self) -> Rounds:
        """Its chunks, by the difference between short and long answers: in a burst, and one at a time."""
        return await self._slopes(self.offered, {"": 0.0, "-paced": PACE})

    async def declared(self) -> Rounds:
        """Whole answers of a declared agent without tools."""
        return await self._interleave(
            self._passing(DECLARED, WORDS, self.effort.requests * PASSED_PER_RUN, streamed=False)
        )

    async def declared_chunks(self) -> Rounds:
        return await self._slopes(DECLARED, {"": 0.0})

    async def crowd(self) -> Rounds:
        """Very many streams at once in one process."""
        order = {
            "path": CHAT,
            "body": _body(self.offered, _message(CROWD_WORDS, CROWD_PACE), streamed=True),
            "needle": "word",
            "needles": CROWD_WORDS,
            "headers": {"x-api-key": KEY},
            "streams": CROWD,
        }
        return [{"gateway": await self.load.order(pid=self.gateway.pid, port=self.gateway.port, **order)}]

    async def _slopes(self, model: str, paces: Mapping[str, float]) -> Rounds:
        count = max(self.effort.clients, self.effort.requests // 4)
        return await self._interleave(
            {
                f"{side}-{words}{name}": ask
                for name, pace in paces.items()
                for words in (FEW, MANY)
                for side, ask in self._passing(model, words, count, streamed=True, pace=pace).items()
                if side not in self.litellm
            }
        )

    def _passing(self, model: str, words: int, count: int, *, streamed: bool, pace: float = 0.0) -> dict[str, Ask]:
        """The same request to the gateway, to what does nothing but pass it on, and to LiteLLM where it is there."""
        servers = {"gateway": (self.gateway, model, KEY), "proxy": (self.proxy, "demo", KEY)}
        servers |= {name: (server, LITELLM_MODEL, LITELLM_KEY) for name, server in self.litellm.items()}
        return {
            side: partial(
                self._load,
                server,
                count,
                path=CHAT,
                body=_body(asked, _message(words, pace), streamed=streamed),
                needle="word",
                needles=words,
                headers={"Authorization": f"Bearer {key}"},
                clients=self.effort.clients if streamed else PASSED_AT_ONCE,
            )
            for side, (server, asked, key) in servers.items()
        }

    async def access(self) -> Rounds:
        """A key check, a decision and the list of what is granted: with few keys and rules, and with very many."""
        count = self.effort.requests * MODELS_PER_RUN
        async with self.crowded(*FEW_RULES) as few, self.crowded(*MANY_RULES) as many:
            lists = {
                f"list-{name}": partial(self._list_models, server, count, needle=f'"{AGENT}"')
                for name, server in (("few", few), ("many", many))
            }
            one = {
                f"one-{name}": partial(self._load, server, count, path=f"/v1/models/{AGENT}", needle=AGENT, needles=1)
                for name, server in (("few", few), ("many", many))
            }
            return await self._interleave(lists | one)

    async def rest(self) -> Rounds:
        """After everything else: what the worker holds and does when nobody asks for anything."""
        return [{"gateway": {"rss_mb": resident_mb(self.gateway.pid), "cpu_ms": await self.gateway.cpu_at_rest(2.0)}}]

    def _sides(self, words: int, count: int, *, streamed: bool, pace: float = 0.0) -> dict[str, Ask]:
        """The same run through the gateway and bare, on each client."""
        message = _message(words, pace)
        order = {
            "message": message,
            "last": f"word{words}",
            "count": count,
            "clients": self.effort.clients,
            "streamed": streamed,
        }
        return {
            "gateway": lambda: self._chat(message, words, count, streamed=streamed),
            **{client: partial(self.bare[client].order, **order) for client in BARE},
        }

    async def _list_models(self, server: Child, count: int, *, needle: str) -> Batch:
        return await self._load(server, count, path="/v1/models", needle=needle, needles=1)

    async def _chat(self, message: str, words: int, count: int, *, streamed: bool) -> Batch:
        # Not one chunk a word: those that are there at once may leave as one. All words have to be there.
        return await self._load(
            self.gateway,
            count,
            path=CHAT,
            body=_body(AGENT, message, streamed=streamed),
            needle="word",
            needles=words,
        )

    async def _load(self, server: Child, count: int, **order: Any) -> Batch:
        return await self.load.order(
            pid=server.pid,
            port=server.port,
            count=count,
            **{"headers": {"x-api-key": KEY}, "clients": self.effort.clients, **order},
        )

    async def _interleave(self, sides: Mapping[str, Ask]) -> Rounds:
        """Every side once a round, and in the next round the other way about, so that a drift favours nobody."""
        rounds: Rounds = []
        for number in range(self.effort.rounds):
            turns = list(sides) if number % 2 == 0 else list(reversed(sides))
            results = {side: await sides[side]() for side in turns}
            rounds.append({side: results[side] for side in sides})
        return rounds


async def start(gateway: Callable[[], Child], times: int) -> Rounds:
    """Starts that are not the first on their data folder: seconds to the first answer, and the memory afterwards."""
    rounds: Rounds = []
    for _ in range(times):
        async with gateway() as server:
            await asyncio.to_thread(_answer, server.port)
            seconds = perf_counter() - server.began
            await asyncio.sleep(1.0)  # until it rests
            rounds.append({"gateway": {"seconds": seconds, "rss_mb": resident_mb(server.pid)}})
    return rounds


def _answer(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    connection.request("POST", CHAT, json.dumps(_body(AGENT, _message(1), streamed=False)), headers)
    response = connection.getresponse()
    if response.status != 200:
        raise BenchFailed(f"The first answer of the gateway was {response.status}: {response.read(600)!r}")
    connection.close()


def _message(words: int, pace: float = 0.0) -> str:
    """What makes the demo upstream say so many words, `pace` seconds apart."""
    return f"[[words={words}]]" + (f" [[delay={pace:g}]]" if pace else "")


def _body(model: str, message: str, *, streamed: bool) -> dict[str, Any]:
    return {"model": model, "stream": streamed, "messages": [{"role": "user", "content": message}]}
