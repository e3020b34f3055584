"""Run what a model name stands for and tell what happens, event by event."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from agents import ModelSettings, Runner, RunResultStreaming
from agents.exceptions import InputGuardrailTripwireTriggered, ModelBehaviorError
from agents.stream_events import StreamEvent
from django.conf import settings

from apps.catalog.registry import Generation
from apps.core.errors import GatewayError, UpstreamTimeout
from apps.execution.approvals import Asker, Resumption, ask, resumed
from apps.execution.events import Finished, FinishReason, RefusalDelta, RunEvent, TextDelta, UnderWay, Usage
from apps.execution.failures import judge
from apps.execution.sdk_runner import Forwarding, forwarding, run_config
from apps.execution.transcript import Transcript
from apps.upstreams.calls import CallLog, ModelCall, current_calls

Events = AsyncGenerator[StreamEvent | UnderWay, None]

log = structlog.get_logger(__name__)

_WATCH_SECONDS = 0.05
_UNDER_WAY_AFTER = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `input` are the SDK's input items; `prompt` is the last user text, all that a workflow takes.

    `model_settings` holds only what the request set; `extra_body` is what the SDK has no field for.
    """

    agent_id: str
    generation: Generation
    input: list[Any]
    prompt: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    resumption: Resumption | None = None  # the stored run to go on with, instead of `input`
    key_id: int = 0
    calls: CallLog = field(default_factory=CallLog)


def execute(order: Order) -> AsyncGenerator[RunEvent, None]:
    """The events of the run, ending with Finished. Closing it early cancels the run and its upstream connections.

    Raises GatewayError. The version that is loaded now serves to the end, whatever is edited meanwhile.
    """
    return _judged(order, _workflow(order) if order.generation.export.workflow else _agent(order))


async def _judged(order: Order, events: AsyncGenerator[RunEvent, None]) -> AsyncGenerator[RunEvent, None]:
    """The same events, with failures judged and the end told."""
    told_refusal = False
    with order.generation.hold():
        try:
            async with aclosing(events):
                async for event in events:
                    told_refusal = told_refusal or type(event) is RefusalDelta
                    yield event
            reason, refused = _finish_reason(order.calls), False
        except GatewayError:
            raise
        except (Exception, SystemExit) as error:  # whatever a module's code raises; some call sys.exit
            verdict = judge(error, order.agent_id)
            cut = _finish_reason(order.calls)
            if isinstance(error, ModelBehaviorError) and cut != "stop":
                # Cut before there was any text, or in the middle of a structured answer: that is what the client hears.
                reason, refused = cut, cut == "content_filter"
            elif isinstance(verdict, GatewayError):
                log.warning("run_raised", agent=order.agent_id, code=verdict.code, exc_info=error)
                raise verdict from error
            else:
                if not told_refusal:
                    yield RefusalDelta(verdict.text) if verdict.by_model else TextDelta(verdict.text)
                reason, refused = "stop" if verdict.by_model else "content_filter", True
        yield Finished(reason, usage_of(order.calls), refused)


async def _told_by(transcript: Transcript, events: Events, calls: CallLog) -> AsyncGenerator[RunEvent, None]:
    """What the transcript makes of the SDK's events.

    Text that waits already is put into one event: a burst costs little more than a word. Nothing is held back: after
    every event, whether clients are told of it or not, the text so far leaves unless more waits.
    """
    text: list[str] = []
    async with aclosing(events):
        try:
            async for event in events:
                told = transcript.read(event)
                if type(told) is TextDelta:
                    text.append(told.text)
                    told = None
                if text and (told is not None or not calls.backlog()):
                    joined = TextDelta("".join(text))
                    text.clear()
                    yield joined
                if told is not None:
                    yield told
        except Exception:
            if text:
                yield TextDelta("".join(text))
            raise
    if text:
        yield TextDelta("".join(text))


async def _agent(order: Order) -> AsyncGenerator[RunEvent, None]:
    export = order.generation.export
    assert export.agent is not None
    current_calls.set(order.calls)
    transcript = Transcript()
    result = Runner.run_streamed(
        export.agent,
        await resumed(export.agent, order.resumption, export.context_type) if order.resumption else order.input,
        context=export.context_type() if export.context_type and not order.resumption else None,
        max_turns=settings.GATEWAY_MAX_TURNS,
        run_config=run_config(model_settings=ModelSettings(**order.model_settings) if order.model_settings else None),
    )
    # The SDK's queue has no public name; pinned by tests/execution/test_sdk_contract.py.
    queue: asyncio.Queue[Any] = result._event_queue  # noqa: SLF001
    order.calls.backlog = queue.qsize
    under_way = _when_under_way(queue)
    deadline = _Deadline(result)
    watcher = _watch_guardrails(result) if export.agent.input_guardrails else None
    told = _told_by(transcript, cast("Events", result.stream_events()), order.calls)
    try:
        async for event in told:
            yield event
        _raise_tripped(result)
        deadline.check()
        for last in (transcript.release(), transcript.final(result.final_output)):
            if last is not None:
                yield last
        if result.interruptions:
            asker = Asker(order.key_id, order.agent_id, order.generation.digest)
            yield await ask(result, asker, follows_text=transcript.has_told)
    finally:
        # Always first: leaving the loop alone would let the run and its upstream stream go on in the background.
        result.cancel()
        await told.aclose()
        under_way.cancel()
        deadline.disarm()
        if watcher:
            watcher.cancel()


def _when_under_way(queue: "asyncio.Queue[Any]") -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(_UNDER_WAY_AFTER, queue.put_nowait, UnderWay())


class _Deadline:
    """Ends a run that takes longer than GATEWAY_RUN_TIMEOUT."""

    def __init__(self, run: RunResultStreaming | asyncio.Task[Any]) -> None:
        self._run = run
        self._passed = False
        self._timer = asyncio.get_running_loop().call_later(settings.GATEWAY_RUN_TIMEOUT, self._pass)

    def _pass(self) -> None:
        self._passed = True
        self._run.cancel()

    def disarm(self) -> None:
        self._timer.cancel()

    def check(self) -> None:
        if self._passed:
            raise UpstreamTimeout(
                f"The run took longer than {settings.GATEWAY_RUN_TIMEOUT:g} s and was stopped.", code="run_timeout"
            )


def _watch_guardrails(result: RunResultStreaming) -> asyncio.Task[None]:
    """Stops a stream as soon as an input guardrail trips; the SDK itself waits until the model has finished."""

    async def watch() -> None:
        while result.run_loop_task is None or not result.run_loop_task.done():
            if any(guardrail.output.tripwire_triggered for guardrail in result.input_guardrail_results):
                result.cancel()
                return
            await asyncio.sleep(_WATCH_SECONDS)

    return asyncio.create_task(watch())


def _raise_tripped(result: RunResultStreaming) -> None:
    """Cancelling makes the SDK forget that a guardrail tripped."""
    for guardrail in result.input_guardrail_results:
        if guardrail.output.tripwire_triggered:
            raise InputGuardrailTripwireTriggered(guardrail)


async def _workflow(order: Order) -> AsyncGenerator[RunEvent, None]:
    """A function that calls Runner itself, such as Agent Builder's `run_workflow`. Its runs stream to here."""
    current_calls.set(order.calls)
    queue: asyncio.Queue[StreamEvent | UnderWay | None] = asyncio.Queue()
    order.calls.backlog = queue.qsize
    forward = Forwarding(queue.put_nowait)
    forwarding.set(forward)
    transcript = Transcript(of_workflow=True)
    task = asyncio.create_task(_call_workflow(order))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    under_way = _when_under_way(queue)
    deadline = _Deadline(task)
    told = _told_by(transcript, _until_none(queue), order.calls)
    try:
        async for event in told:
            yield event
        deadline.check()
        returned = _answer_of(await task)
        answer = forward.last_output if returned is None else returned
        if answer is None and forward.wants_approval:
            answer = _cannot_wait(forward.wants_approval)
        for last in (transcript.release(), transcript.final(answer)):
            if last is not None:
                yield last
    finally:
        await told.aclose()
        under_way.cancel()
        deadline.disarm()
        if not task.done():
            task.cancel()
            with contextlib.suppress(BaseException):
                await task


async def _until_none(queue: asyncio.Queue[StreamEvent | UnderWay | None]) -> Events:
    while (event := await queue.get()) is not None:
        yield event


async def _call_workflow(order: Order) -> Any:
    export = order.generation.export
    assert export.workflow is not None
    argument = export.workflow_input(input_as_text=order.prompt) if export.workflow_input else order.prompt
    return await export.workflow(argument)


def _cannot_wait(tools: tuple[str, ...]) -> str:
    """A workflow is a function half-way through, which cannot be stored as a run's state is."""
    names = ", ".join(f"'{name}'" for name in tools)
    return f"The tool {names} needs a person's approval, for which a workflow cannot wait. It was not called."


def _answer_of(returned: Any) -> Any:
    """What a workflow returned as its answer: Agent Builder's `output_text`, a run's final output, or the value."""
    if isinstance(returned, dict) and "output_text" in returned:
        return returned["output_text"]
    return getattr(returned, "final_output", returned)


def usage_of(log: CallLog) -> Usage:
    calls: list[ModelCall] = log.calls
    return Usage(
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        completion_tokens=sum(call.completion_tokens for call in calls),
        cached_tokens=sum(call.cached_tokens for call in calls),
        reasoning_tokens=sum(call.reasoning_tokens for call in calls),
        model_calls=len(calls),
        estimated=any(call.estimated for call in calls),
    )


def _finish_reason(log: CallLog) -> FinishReason:
    """Of the last model call; the agent's own tool calls are not the client's business."""
    last = log.calls[-1].finish_reason if log.calls else None
    return last if last in ("length", "content_filter") else "stop"  # type: ignore[return-value]
