"""What a declared agent's model and tools have said to each other in a run: the messages of its next model call."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from apps.execution.approvals import Decision, note_decision, rejection
from apps.execution.events import WantedCall
from apps.execution.model_turn import Call, Turn

Message = Mapping[str, Any]


@dataclass(slots=True)
class Dialogue:
    """`messages` without the system message. Those from `hidden_from` on were not told to the client.

    `calls` are those of the newest turn, `results` by their ids what is known, `pending` those that wait for a person.
    """

    messages: list[Message]
    hidden_from: int
    calls: list[Call] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    pending: list[Call] = field(default_factory=list)

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Self:
        return cls(list(messages), len(messages))

    @classmethod
    def stored(cls, state: str) -> Self:
        """What `state` returned."""
        values = json.loads(state)
        for name in ("calls", "pending"):
            values[name] = [Call(**one) for one in values[name]]
        return cls(**values)

    def state(self) -> str:
        """All of it as text, for an approval to come."""
        return json.dumps(asdict(self))

    def take_turn(self, turn: Turn) -> None:
        self.messages.append(turn.message())
        self.calls, self.results, self.pending = turn.calls(), {}, []

    def answer(self) -> None:
        """The results follow their calls, in the order of the calls; the client's own are its to tell."""
        self.messages.extend(
            {"role": "tool", "tool_call_id": call.id, "content": self.results[call.id]}
            for call in self.calls
            if call.id in self.results
        )

    def hidden(self) -> Sequence[Message]:
        return self.messages[self.hidden_from :]

    def hides_something(self) -> bool:
        """More than the one message with the client's calls, which the client has."""
        return len(self.hidden()) > 1

    def wanted(self) -> tuple[WantedCall, ...]:
        return tuple(WantedCall(call.name, call.arguments) for call in self.pending)

    def decided(self, decision: Decision) -> Sequence[Call]:
        """The approved calls; the others are answered with what the person said."""
        approved = []
        for number, call in enumerate(self.pending, start=1):
            note_decision(call.name, decision, number)
            if decision.approves(number):
                approved.append(call)
            else:
                self.results[call.id] = rejection(decision.reason)
        self.pending = []
        return approved
