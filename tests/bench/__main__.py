"""`python -m tests.bench`: CPU and latency of the gateway as ratios within one run. docs/performance.md explains it.

Everything is started here, on loopback and with temporary data, and ended again, on Ctrl-C too.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from tests.bench import processes, report
from tests.bench.measure import BARE, Bench, Effort, Rounds, start
from tests.bench.processes import BenchFailed

MEASUREMENTS = (
    "start", "models", "stream", "chunks", "paced", "whole", "pass_through", "forwarded", "declared", "declared_chunks",
    "crowd", "access", "rest",
)  # fmt: skip
RESULTS = processes.ROOT / "bench-results"
_STARTS = 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=_number(1, 100), default=7, help="paired rounds; default %(default)s")
    parser.add_argument("--requests", type=_number(8, 10_000), default=200, help="runs a batch; default %(default)s")
    parser.add_argument("--clients", type=_number(1, 64), default=2, help="runs at once; default %(default)s")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 60 runs: an impression, not a result")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, metavar="NAME", help="one of %(choices)s")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args()


def _number(least: int, most: int) -> "type[int]":
    def parse(text: str) -> int:
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"give a number from {least} to {most}")
        return int(text)

    return parse  # type: ignore[return-value]


async def measure(names: list[str], effort: Effort, folder: Path) -> dict[str, Rounds]:
    """Raises BenchFailed."""
    measured: dict[str, Rounds] = {}
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(processes.upstream(folder))
        offered = await processes.offers(upstream.port, folder)
        if "start" in names:
            async with processes.gateway(upstream.port, folder):
                _say("start: the data folder is set up")
            measured["start"] = await start(lambda: processes.gateway(upstream.port, folder), _STARTS)
        if others := [name for name in names if name != "start"]:
            bench = await _all_up(stack, upstream, offered, effort, folder)
            for name in others:
                _say(f"{name} ...")
                measured[name] = await getattr(bench, name)()
    return measured


async def _all_up(
    stack: AsyncExitStack, upstream: processes.Child, offered: str, effort: Effort, folder: Path
) -> Bench:
    _say("starting upstream, floors, bare runners, gateway and load")
    up = stack.enter_async_context
    return Bench(
        effort=effort,
        load=await up(processes.load(folder)),
        gateway=await up(processes.gateway(upstream.port, folder)),
        floor=await up(processes.floor(folder)),
        proxy=await up(processes.proxy(upstream.port, folder)),
        litellm={
            "-".join(["litellm", *how]): await up(processes.litellm(upstream.port, folder, *how))
            for how in ([], ["equipped"])
            if processes.LITELLM
        },
        offered=offered,
        bare={client: await up(processes.bare(client, upstream.port, folder)) for client in BARE},
        crowded=partial(processes.crowded, upstream.port, folder),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _run(names: list[str], effort: Effort) -> dict[str, Rounds]:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        return await measure(names, effort, Path(folder))


def main() -> int:
    given = _arguments()
    effort = Effort(*((3, 60) if given.quick else (given.rounds, given.requests)), given.clients)
    names = [name for name in MEASUREMENTS if not given.only or name in given.only]
    try:
        measured = asyncio.run(_run(names, effort))
    except BenchFailed as error:
        _say(f"The benchmark did not run: {error}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("Stopped; nothing was written.")
        return 130
    found = report.rows(measured)
    report.write(RESULTS, found, measured, effort)
    print(report.as_markdown(found, measured, effort))
    _say(f"\nWritten to {RESULTS.relative_to(processes.ROOT)}/latest.md and latest.json")
    return int(given.check and any(row.verdict == "missed" for row in found))


if __name__ == "__main__":
    sys.exit(main())
