"""What was asked, validated."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from apps.upstreams.demo.chat_tasks import is_task
from apps.upstreams.demo.directives import Directives, without_directives
from apps.upstreams.demo.fields import Body, check_n, max_words
from apps.upstreams.demo.keywords import keywords
from apps.upstreams.demo.messages import (
    Message,
    calls_in,
    checked_messages,
    last_user_index,
    last_user_text,
    text_of,
)
from apps.upstreams.demo.tools import Tool, checked_choice, checked_tools, is_handoff


@dataclass(frozen=True)
class Request:
    """A request body in the demo's own terms. `recent` is what follows the last user message, `text` what it says."""

    body: Body
    messages: Sequence[Message]
    recent: Sequence[Message]
    text: str
    is_task: bool
    directives: Directives
    tools: Mapping[str, Tool]
    choice: str | Tool

    @classmethod
    def from_body(cls, body: Body) -> "Request":
        """Raises DemoRequestError."""
        messages = checked_messages(body)
        check_n(body)
        max_words(body)
        tools = checked_tools(body)
        text = last_user_text(messages)
        return cls(
            body=body,
            messages=messages,
            recent=messages[last_user_index(messages) + 1 :],
            text=without_directives(text),
            is_task=is_task(text),
            directives=_directives(text),
            tools=tools,
            choice=checked_choice(body, tools),
        )

    @cached_property
    def keywords(self) -> frozenset[str]:
        return keywords(self.text)

    @cached_property
    def called(self) -> list[str]:
        """The names of the tools called since the last user message, in order."""
        return [call["function"]["name"] for call in calls_in(self.recent)]

    @cached_property
    def handoff_taken(self) -> str:
        """The handoff since the last user message: an agent that nests its history tells it in prose. Empty if none."""
        taken = [name for name in self.called if is_handoff(name)]
        told = [name for message in self.recent for name in re.findall(r"\btransfer_to_\w+", text_of(message))]
        return next(iter(taken + told), "")

    @cached_property
    def results(self) -> list[tuple[str, str]]:
        """Name and output of each ordinary tool's result since the last user message."""
        names = {call["id"]: call["function"]["name"] for call in calls_in(self.recent)}
        results = [message for message in self.recent if message["role"] == "tool"]
        given = [(names.get(result.get("tool_call_id", ""), "a tool"), text_of(result)) for result in results]
        return [(name, output) for name, output in given if not is_handoff(name)]

    @cached_property
    def digest(self) -> str:
        return hashlib.blake2b(json.dumps(self.body, default=str).encode(), digest_size=8).hexdigest()


def _directives(text: str) -> Directives:
    # A chat UI's task quotes the conversation, directives and all: they were meant for the chat.
    return Directives() if is_task(text) else Directives.from_text(text)


# --- what a server wants to know before it answers -------------------------------------------------------------------

_CHANGES_WORDS = ("tool_choice", "response_format", "stop", "max_tokens", "max_completion_tokens", "n")


def delay_of(body: Body) -> float | None:
    """The seconds of a `[[delay=...]]` directive. Raises DemoRequestError."""
    return _directives(last_user_text(checked_messages(body))).delay


def plain_words(body: Body) -> int | None:
    """N when the answer is the N words of `[[words=N]]` and nothing else in the request changes them, else None.

    It lets a server keep the frames of such answers. Raises DemoRequestError.
    """
    directives = _directives(last_user_text(checked_messages(body)))
    if any(body.get(name) is not None for name in _CHANGES_WORDS):
        return None
    return directives.words if directives == Directives(words=directives.words) else None
