"""What runs beside the requests of a server process: started before the first request, stopped after the last."""

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import structlog

from apps.access.keys import key_uses
from apps.access.limits.keeper import keeper
from apps.audits.standing import keeper as audits_keeper
from apps.catalog.registry import Discovery, discovery_mode
from apps.catalog.serving_workers import this_worker
from apps.console.live.hub import hub
from apps.core import live_config
from apps.execution import containment, governed_tools, keeping, mcp_servers, run_metrics, sdk_runner
from apps.execution.past_use import past_use
from apps.execution.purging import purger
from apps.observability import error_ring, logs
from apps.observability.feed import feed
from apps.observability.gateway_metrics import loop_lag
from apps.observability.metrics import sharing
from apps.observability.telemetry import telemetry
from apps.openai_api import draining
from apps.tools import http as http_tools
from apps.tools.mcp import pool
from apps.tools.refresh import read_functions_beside
from apps.upstreams import transport
from apps.upstreams.health_rows import health_rows
from apps.upstreams.refreshing import refresher

log = structlog.get_logger(__name__)

# Sync function tools of all runs share the default executor; asyncio's own size (cores + 4) would let six slow tools
# stall everybody.
_TOOL_THREADS = 64

# Each time the event loop has waited for a socket, it has to get the interpreter back from whichever thread computes: a
# module that is being imported, a sync tool. At Python's own 5 ms a stream under way would stutter.
_SWITCH_SECONDS = 0.001

_DRAIN_SECONDS = 10.0  # that a stop waits for runs which go on without their clients


def _tame_collector() -> None:
    """What is loaded now stays, so it need not be walked again; and a run makes thousands of short-lived objects that
    are freed without the collector, which at Python's 700 would look for cycles some fifty times a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _forget_generators() -> None:
    """asyncio notes every async generator that begins, three a run, to close at the loop's end those that nobody did.
    A worker drains its runs first. One that is dropped half-way is still closed by the loop."""
    sys.set_asyncgen_hooks(firstiter=None, finalizer=sys.get_asyncgen_hooks().finalizer)


async def _close_sessions() -> None:
    await transport.close_session()
    await http_tools.close_sessions()


class Worker:
    """The background services of one server process."""

    def __init__(self) -> None:
        self.is_running = False
        self._starting: asyncio.Lock | None = None
        self._until_stop = ExitStack()

    async def start(self) -> None:
        """Idempotent. Raises what keeps the process from serving, such as an unreachable database."""
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self.is_running:
                return
            try:
                await self._start()
            except BaseException:
                await _close_sessions()
                raise
            self.is_running = True
            log.info("worker_started")

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        feed.start()
        sys.setswitchinterval(_SWITCH_SECONDS)
        _forget_generators()
        loop.set_default_executor(ThreadPoolExecutor(_TOOL_THREADS, thread_name_prefix="tool"))
        containment.contain(loop)
        sdk_runner.install()
        governed_tools.install()
        transport.open_session()
        http_tools.open_sessions()
        self._config = live_config.Poller()
        self._discovery = Discovery()
        this_worker.enter(discovery_mode)
        await asyncio.to_thread(self._config.start)
        await asyncio.to_thread(self._discovery.start)
        await keeper.start(past_use)
        keeping.start()
        purger.start()
        key_uses.start()
        error_ring.start()
        health_rows.start()
        refresher.start()
        audits_keeper.start()
        read_functions_beside()
        pool.current()
        loop_lag.start()
        await asyncio.to_thread(sharing.start)
        await asyncio.to_thread(telemetry.start, run_metrics.CONVENTIONS)
        await hub.start()
        logs.settle()
        self._until_stop.enter_context(logs.whole_lines())
        _tame_collector()

    async def stop(self) -> None:
        """Writes what is waiting to be written."""
        if not self.is_running:
            return
        self.is_running = False
        await asyncio.to_thread(self._discovery.stop)
        await asyncio.to_thread(refresher.stop)
        await asyncio.to_thread(audits_keeper.stop)
        await asyncio.to_thread(health_rows.stop)
        await draining.finish(_DRAIN_SECONDS)
        await hub.stop()
        await mcp_servers.close()
        await pool.close()
        await keeper.stop()
        await asyncio.to_thread(this_worker.leave)
        await asyncio.to_thread(purger.stop)
        lost = await asyncio.to_thread(keeping.stop)
        await asyncio.to_thread(key_uses.stop)
        await asyncio.to_thread(error_ring.stop)
        await asyncio.to_thread(self._config.stop)
        loop_lag.stop()
        await asyncio.to_thread(telemetry.stop)
        await asyncio.to_thread(sharing.stop)  # with what was written last, and what was lost
        await _close_sessions()
        log.info("worker_stopped", runs_lost=lost)
        self._until_stop.close()


worker = Worker()
