"""A run of a declared agent: the model and the tools in turn, until the model answers."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from django.conf import settings

from apps.core.errors import MaxTurnsReached
from apps.execution import callers
from apps.execution.approvals import Asker, Decision, ask_about, asker
from apps.execution.dialogue import Dialogue
from apps.execution.events import ApprovalWanted, Finished, FinishReason, RunEvent
from apps.execution.in_time import in_time
from apps.execution.instructions import system_message
from apps.execution.model_turn import Call, Turn
from apps.execution.open_turns import keep_open, new_reference
from apps.execution.order import DeclaredOrder
from apps.execution.tool_offer import ToolOffer, offer_for
from apps.execution.tool_round import make_calls, to_make
from apps.execution.usage import usage_of
from apps.upstreams import road
from apps.upstreams.chat_stream import ChunkStream, whole_chunk
from apps.upstreams.dialect import adapt
from apps.upstreams.models import Kind
from apps.upstreams.routing import route


def run_declared(order: DeclaredOrder) -> AsyncGenerator[RunEvent, None]:
    """The events of the run, ending with Finished. Closing it cancels its tools and its upstream stream.

    Raises GatewayError.
    """
    # Here, because in_time begins the generator in a task of its own, whose context ends with it.
    events = _events(order, callers.begin(order.subject, order.agent_id, "", order.run_id))
    if not (order.streamed or order.declared.tools or order.client_tools):
        return events  # one call, which watches its own time
    return in_time(events, order.options.run_timeout or settings.GATEWAY_RUN_TIMEOUT, streamed=order.streamed)


async def _events(order: DeclaredOrder, caller: callers.Caller | None) -> AsyncGenerator[RunEvent, None]:
    with callers.under_way(caller):
        run = _Run(order)
        if resumption := order.resumption:
            async with aclosing(run.resumed(resumption.decision)) as events:
                async for event in events:
                    yield event
        while not run.is_over:
            async with aclosing(run.round()) as events:
                async for event in events:
                    yield event


class _Run:
    def __init__(self, order: DeclaredOrder) -> None:
        self._order = order
        self._offer = offer_for(order)
        self._parameters = _parameters(order)
        text = system_message(order)
        self._system = [{"role": "system", "content": text}] if text else []
        self._dialogue = Dialogue.stored(order.resumption.state) if order.resumption else Dialogue.of(order.messages)
        self._drafts = _drafts(self._parameters, self._offer)
        self._most: int = order.options.max_turns or settings.GATEWAY_MAX_TURNS
        self._left = self._most  # model calls
        self._is_first = order.resumption is None
        self.is_over = False
        self._has_told_text = False

    def resumed(self, decision: Decision) -> AsyncGenerator[RunEvent, None]:
        """The calls that waited for it."""
        return self._made(self._dialogue.decided(decision))

    async def round(self) -> AsyncGenerator[RunEvent, None]:
        """A model call, and the calls of tools that it asks for."""
        turn = self._turn(is_draft=self._drafts and self._left > 1)
        body = self._body(turn)
        self._left, self._is_first = self._left - 1, False
        if self._order.streamed:
            async with aclosing(self._streamed(turn, body)) as events:
                async for event in events:
                    yield event
        else:
            for event in await self._whole(turn, body):
                yield event
        self._has_told_text = turn.has_told_text
        if turn.is_draft and turn.is_answer:
            self._left = 1
        elif not turn.calls():
            yield self._finished(turn.finish_reason, refused=turn.has_refused or turn.was_withheld)
        else:
            async with aclosing(self._called(turn)) as events:
                async for event in events:
                    yield event

    async def _called(self, turn: Turn) -> AsyncGenerator[RunEvent, None]:
        if not self._left and not turn.calls_client:
            raise MaxTurnsReached(
                f"The agent '{self._order.agent_id}' still calls tools after {self._most} model calls, which is its "
                "limit. Ask for less at once, or have the limit raised."
            )
        self._dialogue.take_turn(turn)
        async with aclosing(self._made(to_make(self._dialogue, self._offer, calls_client=turn.calls_client))) as events:
            async for event in events:
                yield event
        if self._dialogue.pending:
            yield await self._approval_wanted()
            yield self._finished("stop")
        elif turn.calls_client:
            await self._keep_open(turn.reference)
            yield self._finished("tool_calls")

    # --- the model ---------------------------------------------------------------------------------------------------

    def _turn(self, *, is_draft: bool) -> Turn:
        reference = new_reference() if self._offer.own else ""  # without tools of the gateway there is nothing to hide
        return Turn(self._offer.client, reference=reference, follows_text=self._has_told_text, is_draft=is_draft)

    def _body(self, turn: Turn) -> dict[str, Any]:
        body = {
            **self._parameters,
            **self._offer.parameters(is_first=self._is_first, is_last=self._left == 1),
            "messages": [*self._system, *self._dialogue.messages],
        }
        if turn.is_draft:
            del body["response_format"]
        return body

    async def _streamed(self, turn: Turn, body: dict[str, Any]) -> AsyncGenerator[RunEvent, None]:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        stream = ChunkStream(await road.open_chat(route(None), body), self._order.calls)
        try:
            async for chunk in stream:
                for event in turn.read(chunk):
                    yield event
        finally:
            await stream.aclose()

    async def _whole(self, turn: Turn, body: dict[str, Any]) -> Sequence[RunEvent]:
        """A stream that nobody sees costs twice as much."""
        seconds = self._order.options.run_timeout
        answered = await road.ask_whole(route(None), "/chat/completions", body, adapt=adapt, timeout=seconds)
        return turn.read(whole_chunk(answered, body["messages"]))

    # --- the tools ---------------------------------------------------------------------------------------------------

    async def _made(self, calls: Sequence[Call]) -> AsyncGenerator[RunEvent, None]:
        """Makes the calls. When nothing waits for a person, the model's next messages are complete."""
        results = self._dialogue.results
        known = [call for call in calls if call.name in self._offer.own]
        results |= {call.id: self._offer.unknown(call.name) for call in calls if call.name not in self._offer.own}
        async with aclosing(make_calls(known, self._offer.own, results)) as events:
            async for event in events:
                yield event
        if not self._dialogue.pending:
            self._dialogue.answer()

    async def _approval_wanted(self) -> ApprovalWanted:
        dialogue = self._dialogue
        whose = self._asker()
        return await ask_about(dialogue.wanted(), dialogue.state(), whose, follows_text=self._has_told_text)

    async def _keep_open(self, reference: str) -> None:
        if self._dialogue.hides_something():
            await keep_open(reference, self._dialogue.hidden(), self._asker())

    def _asker(self) -> Asker:
        return asker(self._order.subject, self._order.agent_id, self._order.digest)

    def _finished(self, reason: FinishReason, *, refused: bool = False) -> Finished:
        self.is_over = True
        return Finished(reason, usage_of(self._order.calls), refused)


def _parameters(order: DeclaredOrder) -> Mapping[str, Any]:
    """What does not change from one model call to the next. The request's own win, but not over the agent's format."""
    defaults = dict(order.options.parameters)
    if "max_tokens" in order.parameters:  # two names of one thing
        defaults.pop("max_completion_tokens", None)
    chosen = {**defaults, **order.parameters}
    chosen.pop("parallel_tool_calls", None)  # goes with the tools
    if order.declared.response_format:
        chosen["response_format"] = order.declared.response_format
    return chosen


def _drafts(parameters: Mapping[str, Any], offer: ToolOffer) -> bool:
    """Whether the answer is asked for without its format first, and once more with it: vLLM calls no tool otherwise."""
    kind = parameters.get("response_format", {}).get("type", "text")
    return bool(offer.own or offer.client) and kind != "text" and route(None).target.kind == Kind.VLLM
