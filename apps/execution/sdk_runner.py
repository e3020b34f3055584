"""The gateway's default runner for the SDK: every run of a drop-in, also those its own code starts, passes here.

`Runner.run`, `.run_sync` and `.run_streamed` all go through `agents.run.DEFAULT_AGENT_RUNNER`. Replacing it is the only
public seam that reaches the runs a tool, a guardrail or a workflow starts itself; without it they would call
api.openai.com. The seam is marked experimental: tests/execution/test_sdk_contract.py fails when an upgrade changes it.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, cast

from agents import Agent, RunConfig, RunResult, RunResultStreaming
from agents.models.multi_provider import MultiProvider
from agents.run import AgentRunner, set_default_agent_runner
from agents.stream_events import StreamEvent

from apps.execution import sandbox
from apps.execution.gateway_model import GatewayModelProvider

PROVIDER = GatewayModelProvider()


class Forwarding:
    """Where the events of a workflow's own runs go: the request that waits for the workflow."""

    def __init__(self, emit: Callable[[StreamEvent], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._emit = emit
        self.last_output: Any = None  # of the newest run that ended: the answer of a workflow that returns nothing
        self.wants_approval: tuple[str, ...] = ()  # the tools for which the newest run waits

    def event(self, event: StreamEvent) -> None:
        if asyncio.get_running_loop() is self._loop:
            self._emit(event)
        else:  # Runner.run_sync in a worker thread has a loop of its own
            self._loop.call_soon_threadsafe(self._emit, event)


# Set while a workflow runs; cleared inside the runs that it starts, whose tools' own runs are nobody's answer.
forwarding: ContextVar[Forwarding | None] = ContextVar("forwarding", default=None)


def run_config(**fields: Any) -> RunConfig:
    """The configuration of every run that does not bring its own; `fields` are RunConfig's."""
    return RunConfig(
        model_provider=PROVIDER,
        tracing_disabled=True,
        tool_not_found_behavior="return_error_to_model",  # a local model that invents a tool is told, not killed
        **fields,
    )


def _config_for(agent: Agent[Any], given: RunConfig | dict[str, Any] | None) -> RunConfig | dict[str, Any]:
    """The caller's configuration on the gateway's provider and with a sandbox, where it chose none itself."""
    config = _with_provider(given)
    if not sandbox.is_needed(agent):
        return config
    if isinstance(config, dict):
        return config if config.get("sandbox") else {**config, "sandbox": sandbox.config()}
    return config if config.sandbox else replace(config, sandbox=sandbox.config())


def _with_provider(given: RunConfig | dict[str, Any] | None) -> RunConfig | dict[str, Any]:
    """The caller's configuration on the gateway's provider, unless it chose a provider itself."""
    if given is None:
        return run_config()
    if isinstance(given, dict):
        return given if "model_provider" in given else {**given, "model_provider": PROVIDER}
    if type(given.model_provider) is MultiProvider:  # what RunConfig makes when nobody chose
        return replace(given, model_provider=PROVIDER)
    return given


class GatewayRunner(AgentRunner):
    """Routes every run; streams the runs of a workflow to its request."""

    async def run(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        kwargs["run_config"] = _config_for(starting_agent, kwargs.get("run_config"))
        starting_agent = sandbox.for_one_run(starting_agent)
        forward = forwarding.get()
        if forward is None:
            return await super().run(starting_agent, input, **kwargs)
        token = forwarding.set(None)
        try:
            result = super().run_streamed(starting_agent, input, **kwargs)
            try:
                async for event in result.stream_events():
                    forward.event(event)
            finally:
                result.cancel()
            forward.last_output = result.final_output
            forward.wants_approval = tuple(item.name or "" for item in result.interruptions)
        finally:
            forwarding.reset(token)
        return cast("RunResult", result)  # serves final_output, new_items and to_input_list alike

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        kwargs["run_config"] = _config_for(starting_agent, kwargs.get("run_config"))
        starting_agent = sandbox.for_one_run(starting_agent)
        return super().run_streamed(starting_agent, input, **kwargs)


def install() -> None:
    """Make it the SDK's default runner, once per process."""
    set_default_agent_runner(GatewayRunner())
