"""The gateway's default runner for the SDK: every run of a drop-in, also those its own code starts, passes here.

`Runner.run`, `.run_sync` and `.run_streamed` all go through `agents.run.DEFAULT_AGENT_RUNNER`. Replacing it is the only
public seam that reaches the runs a tool, a guardrail or a workflow starts itself; without it they would call
api.openai.com. The seam is marked experimental: tests/execution/test_sdk_contract.py fails when an upgrade changes it.
"""

from contextvars import ContextVar
from dataclasses import fields, replace
from typing import Any

from agents import Agent, ModelProvider, ModelSettings, RunConfig, RunResult, RunResultStreaming
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.models.multi_provider import MultiProvider
from agents.run import AgentRunner
from agents.tracing import TracingConfig

from apps.catalog import default_runner
from apps.execution import sandbox, sdk_trace
from apps.execution.forwarding import Forwarding, forwarding
from apps.execution.gateway_model import GatewayModelProvider
from apps.execution.governed_tools import tell_of_refused
from apps.execution.guardrails import watched
from apps.upstreams.calls import text_may_join

PROVIDER = GatewayModelProvider()

_TRACING: TracingConfig = {"include_task_and_turn_spans": False}  # what nobody reads need not be made


# Set for the runs of a module that an operator lets use the client it brought.
own_provider: ContextVar[ModelProvider | None] = ContextVar("own_provider", default=None)


def _provider() -> ModelProvider:
    return own_provider.get() or PROVIDER


def run_config(**fields: Any) -> RunConfig:
    """The configuration of every run that does not bring its own; `fields` are RunConfig's."""
    return RunConfig(
        model_provider=_provider(),
        tracing=_TRACING,
        trace_include_sensitive_data=False,
        tool_not_found_behavior="return_error_to_model",  # a local model that invents a tool is told, not killed
        tool_error_formatter=tell_of_refused,
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
    """The caller's configuration on the gateway's provider, unless it chose a provider itself; and traced, which stays
    in this process."""
    if given is None:
        return run_config()
    if isinstance(given, dict):
        return {"model_provider": _provider(), **given, "tracing_disabled": False}
    if type(given.model_provider) is MultiProvider:  # what RunConfig makes when nobody chose
        return replace(given, model_provider=_provider(), tracing_disabled=False)
    return replace(given, tracing_disabled=False) if given.tracing_disabled else given


def _as_chosen(forward: Forwarding, kwargs: dict[str, Any]) -> dict[str, Any]:
    """A run that a workflow starts, as its operator set it: the module's own word comes second."""
    turns = {"max_turns": forward.max_turns} if forward.max_turns else {}
    if forward.settings is None:
        return kwargs | turns
    config = kwargs["run_config"]
    given = _of(config, "model_settings")
    own = ModelSettings(**given) if isinstance(given, dict) else given or ModelSettings()
    settings = own.resolve(forward.settings)
    if isinstance(config, dict):
        return kwargs | turns | {"run_config": {**config, "model_settings": settings}}
    return kwargs | turns | {"run_config": replace(config, model_settings=settings)}


def _of(config: RunConfig | dict[str, Any], name: str) -> Any:
    return config.get(name) if isinstance(config, dict) else getattr(config, name)


def _whole(streamed: RunResultStreaming) -> RunResult:
    """What Runner.run would have returned for a run that was streamed instead. Their fields have the same names, but
    three; pinned by tests/execution/test_sdk_contract.py."""
    shared = [field for field in fields(RunResult) if hasattr(streamed, field.name)]
    given = {field.name: getattr(streamed, field.name) for field in shared if field.init}
    given |= {"_last_agent": streamed.last_agent, "_current_turn": streamed.current_turn}
    for response in streamed.raw_responses:
        if response.response_id == FAKE_RESPONSES_ID:  # of a streamed chat completion
            response.response_id = None
    result = RunResult(**given)
    for field in shared:
        if not field.init and field.name != "_last_agent_ref":
            setattr(result, field.name, getattr(streamed, field.name))
    return result


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
            result = await self._forwarded(forward, starting_agent, input, **_as_chosen(forward, kwargs))
        finally:
            forwarding.reset(token)
        return _whole(result)

    async def _forwarded(
        self, forward: Forwarding, starting_agent: Agent[Any], input: Any, **kwargs: Any
    ) -> RunResultStreaming:
        config = kwargs["run_config"]
        with forward.run(is_held=bool(_of(config, "output_guardrails"))) as tell:
            result = self._begin(starting_agent, input, text_may_be_joined=True, **kwargs)
            guarded = bool(starting_agent.input_guardrails or _of(config, "input_guardrails"))
            try:
                with watched(result, is_needed=guarded):
                    async for event in result.stream_events():
                        tell(event)
            finally:
                result.cancel()
        forward.last = result
        return result

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        """For a module's own code, which may watch every delta."""
        return self._streamed(starting_agent, input, text_may_be_joined=False, **kwargs)

    def run_told(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        """For the gateway, which tells a client of it: text that waits may come as one delta."""
        return self._streamed(starting_agent, input, text_may_be_joined=True, **kwargs)

    def _streamed(self, agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        kwargs["run_config"] = _config_for(agent, kwargs.get("run_config"))
        if forward := forwarding.get():  # of a workflow that reads the stream itself
            kwargs = _as_chosen(forward, kwargs)
        return self._begin(sandbox.for_one_run(agent), input, **kwargs)

    def _begin(self, agent: Agent[Any], input: Any, *, text_may_be_joined: bool, **kwargs: Any) -> RunResultStreaming:
        token = text_may_join.set(text_may_be_joined)  # the run's task begins here and inherits it
        try:
            return super().run_streamed(agent, input, **kwargs)
        finally:
            text_may_join.reset(token)


RUNNER = GatewayRunner()


def install() -> None:
    """Make it the SDK's default runner, once per process, and note what its runs do."""
    default_runner.install(RUNNER)
    sdk_trace.install()
