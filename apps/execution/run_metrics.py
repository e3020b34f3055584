"""Runs as metrics, told once when a run has ended. The names are OpenTelemetry's for generative AI where it has one,
as Prometheus writes them (semantic conventions 1.42, development); `CONVENTIONS` has those of OpenTelemetry itself.

What stands for what: a run is the server's request, with its agent and the model that it called last; tokens are those
of each call to a model. A provider is one of the gateway's upstreams, by its name.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from apps.execution.models import Outcome, Run
from apps.execution.order import ModuleOrder, Order, PassOrder
from apps.observability.labels import Add, Series, adder, observer
from apps.observability.metrics import REGISTRY
from apps.upstreams.calls import ModelCall
from apps.upstreams.prices import cost
from apps.upstreams.raw_answers import CHAT, COMPLETIONS, EMBEDDINGS

CONVENTIONS: Final[Mapping[str, str]] = {
    "gen_ai_server_request_duration_seconds": "gen_ai.server.request.duration",
    "gen_ai_server_time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
    "gen_ai_client_token_usage": "gen_ai.client.token.usage",
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_agent_id": "gen_ai.agent.id",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}

_OF_RUN: Final = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_agent_id", "gen_ai_request_model"]
_OPERATIONS: Final = {CHAT: "chat", COMPLETIONS: "text_completion", EMBEDDINGS: "embeddings"}

_RUNS = Counter(
    "gateway_runs",
    "Runs that ended, by agent, the upstream and model called last, and outcome.",
    ["agent", "upstream", "model", "outcome"],
    registry=REGISTRY,
)
_IN_FLIGHT = Gauge("gateway_runs_in_flight", "Runs under way.", ["agent"], registry=REGISTRY)
_SECONDS = Histogram(
    "gen_ai_server_request_duration_seconds",
    "How long runs took. error_type is empty where none failed, else the error's code, or cancelled.",
    [*_OF_RUN, "error_type"],
    buckets=(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    registry=REGISTRY,
)
_FIRST = Histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "How long streamed runs that ended well took to their first event.",
    _OF_RUN,
    buckets=(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    registry=REGISTRY,
)
_TOKENS = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of calls to models, those of estimated calls included.",
    [*_OF_RUN, "gen_ai_token_type"],
    buckets=(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
    registry=REGISTRY,
)
_ESTIMATED = Counter(
    "gateway_model_calls_estimated",
    "Calls to models whose tokens are estimated: the server reported none, or the call was cut short.",
    ["upstream"],
    registry=REGISTRY,
)
_USD = Counter(
    "gateway_cost_usd",
    "US dollars that calls to models cost, by the price list.",
    ["agent", "upstream", "model"],
    registry=REGISTRY,
)


class _Times:
    """How long runs took that have these labels."""

    __slots__ = ("first", "whole")

    def __init__(self, operation: str, upstream: str, agent: str, model: str, error: str) -> None:
        of_run = operation, upstream, agent, model
        self.whole = observer(_SECONDS, *of_run, error)
        self.first = observer(_FIRST, *of_run)


class _Use:
    """Tokens of calls to models that have these labels."""

    __slots__ = ("completion", "prompt")

    def __init__(self, *of_call: str) -> None:
        self.prompt = observer(_TOKENS, *of_call, "input")
        self.completion = observer(_TOKENS, *of_call, "output")


# A histogram is some twenty series, so fewer of the many have one of their own.
_times: Final = Series(_Times, open=[1, 2, 3, 4], most=500)
_use: Final = Series(_Use, open=[1, 2, 3], most=500)
_runs: Final = Series(partial(adder, _RUNS), open=[0, 1, 2], most=2000)
_usd: Final = Series(partial(adder, _USD), open=[0, 1, 2], most=2000)
_in_flight: Final = Series(partial(adder, _IN_FLIGHT), open=[0], most=2000)
_estimated: Final = Series(partial(adder, _ESTIMATED), open=[0])


def begun(order: Order) -> Add:
    """A run is under way; what comes back is given to `counted` when it has ended."""
    under_way = _in_flight.of(order.agent_id)
    under_way(1)
    return under_way


def counted(run: Run, order: Order, under_way: Add) -> None:
    """The run has ended, and its row says how."""
    under_way(-1)
    agent, outcome = run.agent_id, run.outcome
    _runs.of(agent, run.upstream, run.model, outcome)(1)
    times = _times.of(operation_of(order), run.upstream, agent, run.model, _error(run))
    times.whole(run.duration_ms / 1000)
    if run.streamed and run.first_event_ms is not None and outcome not in _ENDED_BADLY:
        times.first(run.first_event_ms / 1000)
    calls = order.calls.calls
    for call in calls:
        _count(call, order, run.cost_usd if len(calls) == 1 else cost((call,)))


def _count(call: ModelCall, order: Order, usd: float | None) -> None:
    operation = _OPERATIONS.get(order.path, "chat") if type(order) is PassOrder else "chat"
    use = _use.of(operation, call.upstream, order.agent_id, call.model)
    use.prompt(call.prompt_tokens)
    use.completion(call.completion_tokens)
    if call.estimated:
        _estimated.of(call.upstream)(1)
    if usd:
        _usd.of(order.agent_id, call.upstream, call.model)(usd)


_ENDED_BADLY: Final = frozenset({Outcome.FAILED, Outcome.CANCELLED})


def operation_of(order: Order) -> str:
    """What OpenTelemetry calls it."""
    if type(order) is PassOrder:
        return _OPERATIONS.get(order.path, "chat")
    if type(order) is ModuleOrder and order.generation.export.workflow:
        return "invoke_workflow"
    return "invoke_agent"


def _error(run: Run) -> str:
    if run.outcome == Outcome.FAILED:
        return run.error_code or "_OTHER"  # OpenTelemetry's word for what has no name
    return "cancelled" if run.outcome == Outcome.CANCELLED else ""
