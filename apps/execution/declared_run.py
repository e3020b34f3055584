"""A run of a declared agent: the model and the tools in turn, until the model answers."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from django.conf import settings

from apps.core.errors import MaxTurnsReached
from apps.execution import callers
from apps.execution.approvals import Asker, ask_about, asker
from apps.execution.dialogue import Dialogue
from apps.execution.events import ApprovalWanted, Finished, FinishReason, RunEvent
from apps.execution.in_time import in_time
from apps.execution.instructions import system_message
from apps.execution.model_turn import Call, Turn
from apps.execution.order import DeclaredOrder
from apps.execution.suspended_turns import new_reference, suspend
from apps.execution.tool_calls import over_limit
from apps.execution.tool_offer import offer_for
from apps.execution.tool_round import make_calls
from apps.execution.usage import usage_of
from apps.upstreams import road
from apps.upstreams.chat_stream import ChunkStream
from apps.upstreams.routing import route

_ASK_ALONE: Final = (
    "The tool '{name}' was not called: a person has to approve it, who can be asked only when the same answer calls no "
    "tool of the user's own program. Call it again by itself."
)


async def run_declared(order: DeclaredOrder) -> AsyncGenerator[RunEvent, None]:
    """The events of the run, ending with Finished. Closing it cancels its tools and its upstream stream.

    Raises GatewayError.
    """
    seconds = order.options.run_timeout or settings.GATEWAY_RUN_TIMEOUT
    with callers.working_for(order.subject, order.agent_id, "", order.run_id):
        async with aclosing(in_time(_Run(order).events(), seconds, streamed=order.streamed)) as events:
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
        self._has_told_text = False

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        resumption = self._order.resumption
        if resumption:
            async for event in self._made(self._dialogue.decided(resumption.decision)):
                yield event
        most: int = self._order.options.max_turns or settings.GATEWAY_MAX_TURNS
        for number in range(most):
            is_last = number == most - 1
            turn = self._turn()
            async for event in self._asked(turn, is_first=number == 0 and not resumption, is_last=is_last):
                yield event
            if not turn.calls():
                yield self._finished(turn.finish_reason, refused=turn.has_refused or turn.was_withheld)
                return
            self._dialogue.take_turn(turn)
            if is_last and not turn.calls_client:
                break
            async for event in self._made(self._to_make(calls_client=turn.calls_client)):
                yield event
            if self._dialogue.pending:
                yield await self._approval_wanted()
                yield self._finished("stop")
                return
            if turn.calls_client:
                await self._suspend(turn.reference)
                yield self._finished("tool_calls")
                return
        raise MaxTurnsReached(
            f"The agent '{self._order.agent_id}' still calls tools after {most} model calls, which is its limit. "
            "Ask for less at once, or have the limit raised."
        )

    # --- the model ---------------------------------------------------------------------------------------------------

    def _turn(self) -> Turn:
        reference = new_reference() if self._offer.own else ""  # without tools of the gateway there is nothing to hide
        return Turn(self._offer.client, reference=reference, follows_text=self._has_told_text)

    async def _asked(self, turn: Turn, *, is_first: bool, is_last: bool) -> AsyncGenerator[RunEvent, None]:
        opened = await road.open_chat(route(None), self._body(is_first=is_first, is_last=is_last))
        stream = ChunkStream(opened, self._order.calls)
        try:
            async for chunk in stream:
                for event in turn.read(chunk):
                    yield event
        finally:
            await stream.aclose()
        self._has_told_text = turn.has_told_text

    def _body(self, *, is_first: bool, is_last: bool) -> Mapping[str, Any]:
        return {
            **self._parameters,
            **self._offer.parameters(is_first=is_first, is_last=is_last),
            "messages": [*self._system, *self._dialogue.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    # --- the tools ---------------------------------------------------------------------------------------------------

    def _to_make(self, *, calls_client: bool) -> Sequence[Call]:
        """The calls of the newest turn that are made now. The others wait for a person, or are answered at once."""
        dialogue = self._dialogue
        made = []
        for call in dialogue.calls:
            if call.number is not None or self._is_unknown(call):
                continue
            tool = self._offer.own[call.name]
            if not tool.needs_approval:
                made.append(call)
            elif told := over_limit(tool):  # nobody is asked about a call that cannot be made
                dialogue.results[call.id] = told
            elif calls_client:  # which ends the answer in another way
                dialogue.results[call.id] = _ASK_ALONE.format(name=call.name)
            else:
                dialogue.pending.append(call)
        return made

    def _is_unknown(self, call: Call) -> bool:
        """If so, the model is told."""
        if call.name in self._offer.own:
            return False
        self._dialogue.results[call.id] = self._offer.unknown(call.name)
        return True

    async def _made(self, calls: Sequence[Call]) -> AsyncGenerator[RunEvent, None]:
        """Makes the calls. When nothing waits for a person, the model's next messages are complete."""
        calls = [call for call in calls if not self._is_unknown(call)]  # an approved one may be gone since
        async with aclosing(make_calls(calls, self._offer.own, self._dialogue.results)) as events:
            async for event in events:
                yield event
        if not self._dialogue.pending:
            self._dialogue.answer()

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _approval_wanted(self) -> ApprovalWanted:
        dialogue = self._dialogue
        whose = self._asker()
        return await ask_about(dialogue.wanted(), dialogue.state(), whose, follows_text=self._has_told_text)

    async def _suspend(self, reference: str) -> None:
        if self._dialogue.hides_something():
            await suspend(reference, self._dialogue.hidden(), self._asker())

    def _asker(self) -> Asker:
        return asker(self._order.subject, self._order.agent_id, self._order.digest)

    def _finished(self, reason: FinishReason, *, refused: bool = False) -> Finished:
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
