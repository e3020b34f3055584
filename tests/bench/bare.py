"""The SDK without the gateway: the same agent run in a loop against the same upstream, on one of three clients.

`fast` is the gateway's own ChatClient, which hands every chunk to the SDK; `joined` the same one as in a run of the
gateway, where text that came with one read is one chunk; `stock` the openai package's AsyncOpenAI. It takes one order
a line on stdin and answers with one line of JSON; what a run costs here is what the gateway is compared with.
"""

import asyncio
import gc
import json
import os
import sys
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")

import django

django.setup(set_prefix=False)

import uvloop  # noqa: E402
from agents import OpenAIChatCompletionsModel, RunConfig, Runner  # noqa: E402
from openai import AsyncOpenAI  # noqa: E402

from apps.upstreams import transport  # noqa: E402
from apps.upstreams.calls import CallLog, current_calls  # noqa: E402
from apps.upstreams.chat_client import ChatClient  # noqa: E402
from apps.upstreams.routing import Route, Target  # noqa: E402
from tests.bench.agents.Bench.agent import agent  # noqa: E402
from tests.bench.clock import batch  # noqa: E402

MODEL = "demo"


def _client(name: str, upstream: str) -> Any:
    if name == "stock":
        return AsyncOpenAI(base_url=upstream, api_key="bench")
    target = Target(
        slug="demo",
        kind="other",
        base_url=upstream,
        secret="bench",
        default_model=MODEL,
        models=frozenset({MODEL}),
        connect_timeout=10,
        first_event_timeout=60,
        silence_timeout=60,
        takes_reasoning_effort=False,
        takes_verbosity=False,
        takes_strict=True,
        takes_parallel_tool_calls=True,
        takes_developer_role=False,
        takes_several_system_messages=False,
    )
    return ChatClient(Route(target, MODEL))


async def _one(order: dict[str, Any], config: RunConfig) -> str:
    if order["joined"]:
        current_calls.set(CallLog())
    items: Any = [{"role": "user", "content": order["message"]}]
    if not order["streamed"]:
        return str((await Runner.run(agent, items, run_config=config)).final_output)
    result = Runner.run_streamed(agent, items, run_config=config)
    async for _ in result.stream_events():
        pass
    return str(result.final_output)


async def run(order: dict[str, Any], config: RunConfig) -> dict[str, float]:
    """Runs the agent `count` times, `clients` at a time, after one each to warm up."""
    latencies: list[float] = []
    remaining = iter(range(order["count"]))

    async def client() -> None:
        for _ in remaining:
            began = perf_counter()
            output = await _one(order, config)
            latencies.append(perf_counter() - began)
            if not output.endswith(order["last"]):
                raise ValueError(f"a bare run ended with {output[-80:]!r}")

    # The loop stood still since the last batch, and the upstream closed what was idle: begin with new connections.
    await transport.close_session()
    transport.open_session()
    await asyncio.gather(*(_one(order, config) for _ in range(order["clients"])))
    cpu, began = process_time(), perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(order["clients"]):
            group.create_task(client())
    return batch(latencies, process_time() - cpu, perf_counter() - began)


async def _prepared(name: str, upstream: str) -> RunConfig:
    return RunConfig(model=OpenAIChatCompletionsModel(MODEL, _client(name, upstream)), tracing_disabled=True)


async def _close() -> None:
    await transport.close_session()


def main() -> None:
    name, upstream = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        config = runner.run(_prepared(name, upstream))
        gc.collect()
        gc.freeze()  # as the gateway's worker does
        gc.set_threshold(20_000, 10, 10)  # so, too
        print("ready", flush=True)
        for line in sys.stdin:
            order = {**json.loads(line), "joined": name == "joined"}
            print(json.dumps(runner.run(run(order, config))), flush=True)
        runner.run(_close())


if __name__ == "__main__":
    main()
