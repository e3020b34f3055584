"""The SDK's private names that the catalog relies on: an upgrade that changes one fails here, not in production."""

from typing import Generic, TypeVar

from agents import Agent, FunctionTool, RunContextWrapper, function_tool, handoff
from agents.models import _openai_shared
from agents.run import AgentRunner
from agents.tracing import setup
from agents.tracing.provider import DefaultTraceProvider

from apps.catalog.dry_run import HaltingRunner

inner = Agent(name="inner")


def test_handoff_refers_to_its_agent() -> None:
    reference = handoff(inner)._agent_ref
    assert reference is not None
    assert reference() is inner


def test_agent_as_tool_keeps_its_agent() -> None:
    tool = inner.as_tool("ask", "asks")
    assert isinstance(tool, FunctionTool)
    assert tool._agent_instance is inner


def test_function_tool_keeps_its_function() -> None:
    def look_up(context: RunContextWrapper[int]) -> str:
        """Looks up."""
        return ""

    assert function_tool(look_up).__wrapped__ is look_up


def test_agent_of_a_context_keeps_the_type() -> None:
    assert Agent[int](name="x").__orig_class__.__args__ == (int,)  # type: ignore[attr-defined]
    assert issubclass(Agent, Generic)  # type: ignore[arg-type]
    assert isinstance(Agent.__parameters__[0], TypeVar)  # type: ignore[attr-defined]


def test_defaults_are_module_variables() -> None:
    names = [name for name in vars(_openai_shared) if name.startswith(("_default_openai", "_use_resp"))]
    assert sorted(names) == [
        "_default_openai_client",
        "_default_openai_key",
        "_default_openai_responses_transport",
        "_use_responses_by_default",
        "_use_responses_websocket_by_default",
    ]


def test_trace_provider_is_replaceable() -> None:
    assert hasattr(setup, "GLOBAL_TRACE_PROVIDER")
    for method in ("register_processor", "set_processors", "set_disabled"):
        assert callable(getattr(DefaultTraceProvider, method))


def test_every_way_to_run_is_halted_while_a_module_is_loaded() -> None:
    public = {name for name in vars(AgentRunner) if not name.startswith("_")}
    assert public == {"run", "run_sync", "run_streamed"}
    assert public <= set(vars(HaltingRunner))
