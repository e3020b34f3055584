"""What the gateway relies on in the SDK beyond its documented surface: an upgrade that changes it fails here."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from typing import Any, cast, get_args

import agents.run
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    Model,
    ModelProvider,
    ModelResponse,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    RunResult,
    RunResultStreaming,
    Usage,
    function_tool,
    input_guardrail,
)
from agents.items import ItemHelpers, ToolCallOutputItem
from agents.models import chatcmpl_converter
from agents.models.multi_provider import MultiProvider
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner
from agents.stream_events import RunItemStreamEvent
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from apps.execution import sdk_runner
from apps.execution.events import UnderWay
from apps.execution.forwarding import Forwarding, RunBegan, RunEnded, forwarding
from apps.execution.sdk_runner import PROVIDER, GatewayRunner, run_config


class ScriptedModel(Model):
    """Answers with what stands next in its script."""

    def __init__(self, *script: Any) -> None:
        self._script = iter(script)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(output=[next(self._script)], usage=Usage(), response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        response = Response(
            id="r", created_at=0, model="m", object="response", output=[next(self._script)],
            parallel_tool_calls=False, tool_choice="auto", tools=[],
        )  # fmt: skip
        yield ResponseCompletedEvent(response=response, type="response.completed", sequence_number=0)


def text(said: str) -> ResponseOutputMessage:
    content = ResponseOutputText(text=said, type="output_text", annotations=[])
    return ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[content])


def tool_call(name: str, arguments: str = "{}", id: str = "call_1") -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(call_id=id, name=name, arguments=arguments, type="function_call")


class Provider(ModelProvider):
    def __init__(self, model: Model) -> None:
        self.model = model
        self.asked: list[str | None] = []

    def get_model(self, model_name: str | None) -> Model:
        self.asked.append(model_name)
        return self.model


class RecordingRunner(AgentRunner):
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def run(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        self.seen.append(("run", starting_agent.name))
        return await super().run(starting_agent, input, **kwargs)

    def run_sync(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        self.seen.append(("run_sync", starting_agent.name))
        return super().run_sync(starting_agent, input, **kwargs)

    def run_streamed(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        self.seen.append(("run_streamed", starting_agent.name))
        return super().run_streamed(starting_agent, input, **kwargs)


@pytest.fixture(autouse=True)
def _default_runner() -> Iterator[None]:
    before = get_default_agent_runner()
    yield
    set_default_agent_runner(before)


@pytest.fixture
def runner() -> RecordingRunner:
    runner = RecordingRunner()
    set_default_agent_runner(runner)
    return runner


def test_nobody_else_can_set_the_default_runner() -> None:
    sdk_runner.install()
    ours = get_default_agent_runner()

    agents.run.set_default_agent_runner(AgentRunner())

    assert get_default_agent_runner() is ours


def test_seam_is_where_we_set_it() -> None:
    runner = GatewayRunner()
    set_default_agent_runner(runner)

    assert agents.run.DEFAULT_AGENT_RUNNER is runner


async def test_seam_sees_run_and_run_streamed(runner: RecordingRunner) -> None:
    agent = Agent(name="A", model=ScriptedModel(text("one"), text("two")))

    whole = await Runner.run(agent, "Hi")
    streamed = Runner.run_streamed(agent, "Hi")
    async for _ in streamed.stream_events():
        pass

    assert (whole.final_output, streamed.final_output) == ("one", "two")
    assert runner.seen == [("run", "A"), ("run_streamed", "A")]


def test_seam_sees_run_sync_which_goes_through_run(runner: RecordingRunner) -> None:
    agent = Agent(name="A", model=ScriptedModel(text("one")))

    assert Runner.run_sync(agent, "Hi").final_output == "one"
    assert runner.seen == [("run_sync", "A"), ("run", "A")]


async def test_seam_sees_agents_as_tools_and_runs_that_a_tool_starts(runner: RecordingRunner) -> None:
    inner = Agent(name="Inner", model=ScriptedModel(text("deep")))
    other = Agent(name="Other", model=ScriptedModel(text("deeper")))

    @function_tool
    async def dig() -> str:
        return str((await Runner.run(inner, "Hi")).final_output)

    script = ScriptedModel(tool_call("dig"), tool_call("ask_other", '{"input": "Hi"}', "call_2"), text("done"))
    outer = Agent(name="Outer", model=script, tools=[dig, other.as_tool("ask_other", "Asks.")])

    assert (await Runner.run(outer, "Hi")).final_output == "done"
    assert runner.seen == [("run", "Outer"), ("run", "Inner"), ("run", "Other")]


async def test_runs_of_a_module_use_the_gateways_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested ones too, with a configuration of their own or without."""
    provider = Provider(ScriptedModel(tool_call("dig"), text("deep"), text("deeper"), text("done")))
    monkeypatch.setattr(sdk_runner, "PROVIDER", provider)
    sdk_runner.install()

    @function_tool
    async def dig() -> str:
        first = await Runner.run(Agent(name="Inner", model="inner-model"), "Hi")
        second = await Runner.run(Agent(name="Second"), "Hi", run_config=RunConfig(workflow_name="its own"))
        return f"{first.final_output} {second.final_output}"

    result = await Runner.run(Agent(name="Outer", model="outer-model", tools=[dig]), "Hi")

    outputs = [item.output for item in result.new_items if isinstance(item, ToolCallOutputItem)]
    assert (outputs, result.final_output) == (["deep deeper"], "done")
    assert provider.asked == ["outer-model", "inner-model", None, "outer-model"]


async def test_module_that_brings_its_own_provider_keeps_it() -> None:
    sdk_runner.install()
    own = Provider(ScriptedModel(text("mine")))

    result = await Runner.run(Agent(name="A"), "Hi", run_config=RunConfig(model_provider=own))

    assert (result.final_output, own.asked) == ("mine", [None])


def test_run_config_that_nobody_chose_has_a_multi_provider() -> None:
    """By this type the gateway knows that it may put its own provider in its place."""
    assert type(RunConfig().model_provider) is MultiProvider


def test_run_config_has_the_fields_that_the_gateway_sets() -> None:
    config = run_config()

    assert config.model_provider is PROVIDER
    assert (config.tracing_disabled, config.tool_not_found_behavior) == (False, "return_error_to_model")
    assert config.tracing == {"include_task_and_turn_spans": False}


async def test_streamed_result_has_what_the_gateway_reads() -> None:
    result = Runner.run_streamed(Agent(name="A", model=ScriptedModel(text("one"))), "Hi")

    assert isinstance(result._event_queue, asyncio.Queue)
    assert result._event_queue.qsize() >= 0
    assert isinstance(result.input_guardrail_results, list)
    assert isinstance(result.run_loop_task, asyncio.Task)
    assert inspect.signature(result.cancel).parameters["mode"].default == "immediate"
    assert result.interruptions == []
    async for _ in result.stream_events():
        pass
    assert result._event_queue.qsize() == 0


async def test_streamed_result_passes_on_what_the_gateway_puts_into_its_queue() -> None:
    result = Runner.run_streamed(Agent(name="A", model=ScriptedModel(text("one"))), "Hi")
    result._event_queue.put_nowait(cast("Any", UnderWay()))

    assert UnderWay in [type(event) async for event in result.stream_events()]


def test_streamed_result_has_the_fields_of_a_whole_one() -> None:
    whole, streamed = ({field.name for field in fields(kind)} for kind in (RunResult, RunResultStreaming))

    assert whole - streamed == {"_last_agent", "_last_agent_ref", "_current_turn"}


async def test_run_of_a_workflow_is_streamed_and_returns_what_runner_returns() -> None:
    seen: list[Any] = []
    token = forwarding.set(Forwarding(seen.append))
    try:
        result = await GatewayRunner().run(Agent(name="A", model=ScriptedModel(text("one"))), "Hi")
    finally:
        forwarding.reset(token)

    assert type(result) is RunResult
    assert result.final_output_as(str) == "one"
    assert (result.last_agent.name, len(result.raw_responses)) == ("A", 1)
    assert [ItemHelpers.text_message_output(item) for item in result.new_items] == ["one"]
    assert result.to_input_list()[0] == {"content": "Hi", "role": "user"}
    assert result.to_state().get_interruptions() == []
    assert [type(event) for event in (seen[0], seen[-1])] == [RunBegan, RunEnded]


def test_names_of_item_events_are_those_that_the_transcript_reads() -> None:
    names = get_args(inspect.get_annotations(RunItemStreamEvent, eval_str=True)["name"])

    assert {"message_output_created", "tool_called", "tool_output", "handoff_occured"} - set(names) == set()


async def test_events_of_a_run_come_in_the_order_that_the_transcript_reads() -> None:
    @function_tool
    def dig() -> str:
        return "gold"

    target = Agent(name="Target", model=ScriptedModel(text("done")))
    script = ScriptedModel(tool_call("dig"), tool_call("transfer_to_target", id="call_2"))
    source = Agent(name="Source", model=script, tools=[dig], handoffs=[target])
    result = Runner.run_streamed(source, "Hi")

    seen = [getattr(event, "name", event.type) async for event in result.stream_events()]

    assert [name for name in seen if name != "raw_response_event"] == [
        "agent_updated_stream_event",
        "tool_called",
        "tool_output",
        "handoff_requested",
        "handoff_occured",
        "agent_updated_stream_event",
        "message_output_created",
    ]


async def test_result_of_a_tripped_guardrail_stays_readable_after_a_cancel() -> None:
    """`cancel` empties the queue from which the SDK would raise; the gateway raises from the results instead."""

    @input_guardrail
    async def trip(context: Any, agent: Any, input: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    class Slow(ScriptedModel):
        async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

    result = Runner.run_streamed(Agent(name="A", model=Slow(), input_guardrails=[trip]), "Hi")
    async with asyncio.timeout(10):
        while not result.input_guardrail_results:  # noqa: ASYNC110  # the SDK offers nothing to wait on
            await asyncio.sleep(0.01)
        result.cancel()
        try:
            async for _ in result.stream_events():
                pass
        except InputGuardrailTripwireTriggered:
            pass

    (tripped,) = result.input_guardrail_results
    assert tripped.output.tripwire_triggered
    assert isinstance(InputGuardrailTripwireTriggered(tripped).guardrail_result.guardrail.get_name(), str)


def test_chat_model_takes_a_client_by_its_shape() -> None:
    parameters = inspect.signature(OpenAIChatCompletionsModel.__init__).parameters

    assert list(parameters)[:3] == ["self", "model", "openai_client"]


def test_converter_writes_the_messages_that_our_items_mean() -> None:
    """The way back of apps/openai_api/conversation.py: see tests/openai_api/test_conversation.py."""
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "type": "message", "id": "__fake_id__", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Wait.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
    ]  # fmt: skip

    messages = chatcmpl_converter.Converter.items_to_messages(items)

    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
