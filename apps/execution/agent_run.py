"""A run of an agent, by the SDK's own Runner."""

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from agents import Agent, ModelSettings
from django.conf import settings

from apps.catalog.exports import Export
from apps.core.errors import RunFailed
from apps.execution import mcp_servers
from apps.execution.approvals import ask, asker, resumed
from apps.execution.events import RunEvent
from apps.execution.guardrails import watched
from apps.execution.model_settings import model_settings, with_defaults
from apps.execution.order import ModuleOrder
from apps.execution.sdk_runner import RUNNER, run_config
from apps.execution.timing import Deadline, when_under_way
from apps.execution.transcript import Events, Transcript, told_by


async def run_built_agent(order: ModuleOrder) -> AsyncGenerator[RunEvent, None]:
    """An agent that its factory builds for this run, with MCP servers that are this run's alone."""
    agent = await _built(order.generation.export)
    async with mcp_servers.of_run(agent, order.generation), aclosing(run_agent(order, agent)) as events:
        async for event in events:
            yield event


async def run_agent(order: ModuleOrder, agent: Agent[Any]) -> AsyncGenerator[RunEvent, None]:
    """The events of the run; closing it cancels the run. Raises whatever the SDK and the module raise."""
    export = order.generation.export
    transcript = Transcript()
    result = RUNNER.run_told(
        agent,
        await resumed(agent, order.resumption, export.context_type) if order.resumption else order.input,
        context=export.context_type() if export.context_type and not order.resumption else None,
        max_turns=order.options.max_turns or settings.GATEWAY_MAX_TURNS,
        run_config=run_config(model_settings=_model_settings(order)),
    )
    # The SDK's queue has no public name; pinned by tests/execution/test_sdk_contract.py.
    queue: asyncio.Queue[Any] = result._event_queue  # noqa: SLF001
    order.calls.backlog = queue.qsize
    under_way = when_under_way(queue)
    deadline = Deadline(result, order.options.run_timeout)
    told = told_by(transcript, cast("Events", result.stream_events()), order.calls)
    try:
        with watched(result, is_needed=bool(agent.input_guardrails)):
            async for event in told:
                yield event
        deadline.check()
        for last in (transcript.release(), transcript.final(result.final_output)):
            if last is not None:
                yield last
        if result.interruptions:
            whose = asker(order.subject, order.agent_id, order.digest)
            yield await ask(result, whose, follows_text=transcript.has_told)
    finally:
        # Always first: leaving the loop alone would let the run and its upstream stream go on in the background.
        result.cancel()
        await told.aclose()
        under_way.cancel()
        deadline.disarm()


def _model_settings(order: ModuleOrder) -> ModelSettings | None:
    """The request's own; under them what the operator set. Both go before the module's."""
    chosen = with_defaults(order.model_settings, model_settings(order.options.parameters))
    return ModelSettings(**chosen) if chosen else None


async def _built(export: Export) -> Agent[Any]:
    """The agent of this run. A factory may take its time: it runs in a thread, unless it is asynchronous."""
    assert export.per_run is not None
    is_async = inspect.iscoroutinefunction(export.per_run)
    agent = await export.per_run() if is_async else await asyncio.to_thread(export.per_run)
    if not isinstance(agent, Agent):
        raise RunFailed(f"The factory {export.variable}() returned a {type(agent).__name__}, not an Agent.")
    return agent
