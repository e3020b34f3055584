"""Run what a model name stands for and tell what happens, event by event."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from agents import Agent, ModelSettings, Runner, RunResultStreaming
from agents.exceptions import ModelBehaviorError
from django.conf import settings

from apps.catalog.exports import Export
from apps.catalog.registry import Generation
from apps.core.errors import GatewayError, RunFailed, UpstreamTimeout
from apps.execution import mcp_servers
from apps.execution.approvals import Asker, Resumption, ask, resumed
from apps.execution.events import Finished, FinishReason, RefusalDelta, RunEvent, TextDelta, UnderWay, Usage
from apps.execution.failures import judge
from apps.execution.forwarding import ForwardedEvent, Forwarding, forwarding
from apps.execution.guardrails import watched
from apps.execution.sdk_runner import own_provider, run_config
from apps.execution.transcript import BETWEEN_MESSAGES, Transcript
from apps.upstreams.calls import CallLog, ModelCall, current_calls

Events = AsyncGenerator[ForwardedEvent | UnderWay, None]

log = structlog.get_logger(__name__)

_UNDER_WAY_AFTER = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `input` is the SDK's (text or items); `prompt` is the last user text, all that a workflow takes.

    `model_settings` holds only what the request set; `extra_body` is what the SDK has no field for.
    """

    agent_id: str
    generation: Generation
    input: str | list[Any]
    prompt: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    resumption: Resumption | None = None  # the stored run to go on with, instead of `input`
    key_id: int = 0
    calls: CallLog = field(default_factory=CallLog)


def execute(order: Order) -> AsyncGenerator[RunEvent, None]:
    """The events of the run, ending with Finished. Closing it early cancels the run and its upstream connections.

    Raises GatewayError. The version that is loaded now serves to the end, whatever is edited meanwhile.
    """
    export = order.generation.export
    if export.workflow:
        return _judged(order, _workflow(order))
    return _judged(order, _agent(order, export.agent) if export.agent and not export.per_run else _built_agent(order))


async def _judged(order: Order, events: AsyncGenerator[RunEvent, None]) -> AsyncGenerator[RunEvent, None]:
    """The same events, with failures judged and the end told."""
    told_text = told_refusal = False
    with order.generation.hold():
        try:
            await mcp_servers.connect(order.generation)
            async with aclosing(events):
                async for event in events:
                    told_text = told_text or type(event) is TextDelta
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
                    text = f"{BETWEEN_MESSAGES}{verdict.text}" if told_text else verdict.text
                    yield RefusalDelta(verdict.text) if verdict.by_model else TextDelta(text)
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


async def _built_agent(order: Order) -> AsyncGenerator[RunEvent, None]:
    """An agent that its factory builds for this run, with MCP servers that are this run's alone."""
    current_calls.set(order.calls)
    own_provider.set(order.generation.model_provider)
    agent = await _built(order.generation.export)
    async with mcp_servers.of_run(agent, order.generation), aclosing(_agent(order, agent)) as events:
        async for event in events:
            yield event


async def _agent(order: Order, agent: Agent[Any]) -> AsyncGenerator[RunEvent, None]:
    export = order.generation.export
    current_calls.set(order.calls)
    own_provider.set(order.generation.model_provider)
    transcript = Transcript()
    result = Runner.run_streamed(
        agent,
        await resumed(agent, order.resumption, export.context_type) if order.resumption else order.input,
        context=export.context_type() if export.context_type and not order.resumption else None,
        max_turns=settings.GATEWAY_MAX_TURNS,
        run_config=run_config(model_settings=ModelSettings(**order.model_settings) if order.model_settings else None),
    )
    # The SDK's queue has no public name; pinned by tests/execution/test_sdk_contract.py.
    queue: asyncio.Queue[Any] = result._event_queue  # noqa: SLF001
    order.calls.backlog = queue.qsize
    under_way = _when_under_way(queue)
    deadline = _Deadline(result)
    told = _told_by(transcript, cast("Events", result.stream_events()), order.calls)
    try:
        with watched(result, is_needed=bool(agent.input_guardrails)):
            async for event in told:
                yield event
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


async def _built(export: Export) -> Agent[Any]:
    """The agent of this run. A factory may take its time: it runs in a thread, unless it is asynchronous."""
    assert export.per_run is not None
    is_async = inspect.iscoroutinefunction(export.per_run)
    agent = await export.per_run() if is_async else await asyncio.to_thread(export.per_run)
    if not isinstance(agent, Agent):
        raise RunFailed(f"The factory {export.variable}() returned a {type(agent).__name__}, not an Agent.")
    return agent


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


async def _workflow(order: Order) -> AsyncGenerator[RunEvent, None]:
    """A function that calls Runner itself, such as Agent Builder's `run_workflow`. Its runs stream to here."""
    current_calls.set(order.calls)
    own_provider.set(order.generation.model_provider)
    queue: asyncio.Queue[ForwardedEvent | UnderWay | None] = asyncio.Queue()
    order.calls.backlog = queue.qsize
    forward = Forwarding(queue.put_nowait)
    forwarding.set(forward)
    transcript = Transcript(of_workflow=True)
    task = asyncio.create_task(_call_workflow(order, forward))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    under_way = _when_under_way(queue)
    deadline = _Deadline(task)
    told = _told_by(transcript, _until_none(queue), order.calls)
    try:
        async for event in told:
            yield event
        deadline.check()
        answer = _answer_of(await task)
        if answer is None and forward.last:
            answer = _last_word(forward.last, transcript)
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


async def _until_none(queue: asyncio.Queue[ForwardedEvent | UnderWay | None]) -> Events:
    while (event := await queue.get()) is not None:
        yield event


async def _call_workflow(order: Order, forward: Forwarding) -> Any:
    export = order.generation.export
    assert export.workflow is not None
    argument = export.workflow_input(input_as_text=order.prompt) if export.workflow_input else order.prompt
    returned = await export.workflow(argument)
    if isinstance(returned, RunResultStreaming):  # handed over for its caller to read
        with forward.run(is_held=False) as tell:
            async for event in returned.stream_events():
                tell(event)
    return returned


def _last_word(result: RunResultStreaming, transcript: Transcript) -> Any:
    """The answer of a workflow that returns nothing: what its last run came to, unless that is a classifier's JSON."""
    if result.interruptions:
        # A function half-way through cannot be stored as a run's state is.
        names = ", ".join(f"'{item.name}'" for item in result.interruptions)
        return f"The tool {names} needs a person's approval, for which a workflow cannot wait. It was not called."
    is_structured = result.last_agent.output_type not in (None, str)
    return None if is_structured and transcript.has_told else result.final_output


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
