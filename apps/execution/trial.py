"""A run of an agent on the built-in demo, by itself: without a gateway, an upstream or a database."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, cast

from agents import Model, ModelProvider, OpenAIChatCompletionsModel
from django.db import DatabaseError

from apps.catalog.generations import Generation
from apps.core.errors import Unavailable
from apps.execution import mcp_servers
from apps.execution.events import RefusalDelta, TextDelta
from apps.execution.execute import execute
from apps.execution.order import ModuleOrder
from apps.upstreams import demo
from apps.upstreams.chat_client import ChatClient
from apps.upstreams.models import Kind
from apps.upstreams.routing import Route, Target

_DEMO: Final = Target(
    slug="demo",
    kind=Kind.DEMO,
    base_url="",
    secret="",
    default_model=demo.MODEL,
    models=frozenset({demo.MODEL}),
    connect_timeout=5,
    first_event_timeout=60,
    silence_timeout=60,
    takes_reasoning_effort=True,
    takes_verbosity=True,
    takes_strict=True,
    takes_parallel_tool_calls=True,
    takes_developer_role=True,
    takes_several_system_messages=True,
)


class DemoProvider(ModelProvider):
    """The demo for every name of a model."""

    def get_model(self, model_name: str | None) -> Model:
        client = cast("Any", ChatClient(Route(_DEMO, model_name or demo.MODEL)))  # duck-typed: see ChatClient
        return OpenAIChatCompletionsModel(model_name or demo.MODEL, client)


async def answer(generation: Generation, text: str) -> AsyncIterator[str]:
    """The agent's answer as it comes; a model object of the agent's own is asked itself.

    Raises GatewayError, also for a run that would wait for a person: there is no database that could keep it.
    """
    generation.model_provider = DemoProvider()
    order = ModuleOrder(agent_id=generation.agent_id, generation=generation, input=text, prompt=text)
    try:
        async with aclosing(_texts(order)) as texts:
            async for one in texts:
                yield one
    except Unavailable as error:
        if isinstance(error.__cause__, DatabaseError):
            raise Unavailable("it wants a person's approval for a tool, for which only a gateway can wait.") from error
        raise
    finally:
        await mcp_servers.close()


async def _texts(order: ModuleOrder) -> AsyncGenerator[str, None]:
    async with aclosing(execute(order)) as events:
        async for event in events:
            if isinstance(event, TextDelta | RefusalDelta):
                yield event.text
