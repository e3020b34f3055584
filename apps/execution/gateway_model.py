"""What answers for a model name: an upstream's chat completions, or its Responses API for what only that can do.

Decided for each call, from the call: so agents used as tools, handoff targets and the runs that a module starts itself
each get what they need, wherever they come from.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final, cast

from agents import ModelProvider, ModelResponse, OpenAIChatCompletionsModel, OpenAIResponsesModel
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.models.interface import ModelTracing

from apps.catalog.graph import responses_feature
from apps.upstreams.chat_client import ChatClient
from apps.upstreams.responses_client import ResponsesClient
from apps.upstreams.routing import Route, route

# What the SDK can say in chat completions. The last two it refuses by name, because leaving them out would lose a
# conversation without a word.
_CHAT_ITEMS: Final = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "compaction", "item_reference"}
)
_TRACING: Final = 2


class GatewayModelProvider(ModelProvider):
    """Every model name of every agent, resolved against the upstreams in force."""

    def get_model(self, model_name: str | None) -> "GatewayModel":
        return GatewayModel(model_name, route(model_name))


class GatewayModel(OpenAIChatCompletionsModel):
    """A model name on its upstream. Raises Unavailable where a call needs the Responses API and no upstream has it."""

    def __init__(self, name: str | None, found: Route) -> None:
        super().__init__(found.model, cast("Any", ChatClient(found)))  # duck-typed: see ChatClient
        self._name = name
        self._found = found

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        args, kwargs = _untraced(args, kwargs)
        if responses := self._responses(tools, **kwargs):
            return await responses.get_response(system_instructions, input, model_settings, tools, *args, **kwargs)
        return await super().get_response(system_instructions, _sayable(input), model_settings, tools, *args, **kwargs)

    def stream_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        args, kwargs = _untraced(args, kwargs)
        if responses := self._responses(tools, **kwargs):
            return responses.stream_response(system_instructions, input, model_settings, tools, *args, **kwargs)
        return super().stream_response(system_instructions, _sayable(input), model_settings, tools, *args, **kwargs)

    def _responses(
        self,
        tools: list[Any],
        *,
        previous_response_id: str | None = None,
        conversation_id: str | None = None,
        prompt: Any = None,
        **_: Any,
    ) -> OpenAIResponsesModel | None:
        """The model for this call if only the Responses API can answer it."""
        if prompt is not None or any(responses_feature(tool) for tool in tools):
            found = route(self._name, responses=True)
        elif self._found.target.speaks_responses and (
            conversation_id or previous_response_id not in (None, FAKE_RESPONSES_ID)
        ):
            # The history lies on that server and on no other; elsewhere the SDK warns that it is not used.
            found = replace(self._found, others=())
        else:
            return None
        client = cast("Any", ResponsesClient(found))  # duck-typed: see ResponsesClient
        return OpenAIResponsesModel(found.model, client, model_is_explicit=bool(self._name))


def _untraced(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What follows the tools: the output's schema, handoffs, tracing. The call is recorded where it is made, in
    upstreams/calls.py; a span beside it would be a second record."""
    if len(args) > _TRACING:
        return (*args[:_TRACING], ModelTracing.DISABLED, *args[_TRACING + 1 :]), kwargs
    return args, {**kwargs, "tracing": ModelTracing.DISABLED}


def _sayable(input: Any) -> Any:
    """Without the hosted tool calls of other agents of the conversation; what came of them stands in the answers."""
    if isinstance(input, str) or all(item.get("type", "message") in _CHAT_ITEMS for item in input):
        return input
    return [item for item in input if item.get("type", "message") in _CHAT_ITEMS]
