"""How a chat asks a person for an approval, and how it understands the answer. Text, because every chat UI has text."""

import json
import re
from collections.abc import Sequence

from apps.execution.approvals import Decision
from apps.execution.events import ApprovalWanted, WantedCall
from apps.openai_api.conversation import text_of
from apps.openai_api.schemas import AssistantMessage, Message, TextPart, UserMessage

_LONGEST_ANSWER = 2_000  # characters; a decision is short
_LONGEST_ARGUMENTS = 4_000

_REFERENCE = re.compile(r"\bapr_[0-9a-f]{16}\b")
_ASKED = re.compile(r"\(reference (apr_[0-9a-f]{16})\)")
# An approval is nothing but an approval: "yes, but only for Oslo" is not one.
_APPROVES = re.compile(r"(?:yes|y|ok|okay|approved?)(?:[\s,]+all)?((?:\s|,|and\b|#|\d)*)[.!]*", re.IGNORECASE)
_REJECTS = re.compile(r"(?:no|n|reject(?:ed)?|deny|denied)(?:[\s,]+all)?\b[\s,.:;!-]*(.*)", re.IGNORECASE | re.DOTALL)
# Every message is asked whether it decides: most are done with here, by how they begin.
_MAY_DECIDE = re.compile(r"[\s*`\"']*(?:yes|y|ok|okay|approved?|no|n|reject(?:ed)?|deny|denied)", re.IGNORECASE)


def request_text(event: ApprovalWanted) -> str:
    """What the person reads. `decision_in` finds the reference again in the history that the client sends back."""
    some = "**approve 1** (which rejects the others), " if len(event.calls) > 1 else ""
    return ("\n\n" if event.follows_text else "") + "\n".join(
        [
            "I need your approval before I go on. I want to call:",
            "",
            *(f"{number}. **{call.name}** {_arguments(call)}" for number, call in enumerate(event.calls, start=1)),
            "",
            f"Answer **approve**, {some}or **reject** and why. (reference {event.reference})",
        ]
    )


def _arguments(call: WantedCall) -> str:
    """On one line, so that a person sees all of it and nothing of it can pass for our own words."""
    try:
        text = json.dumps(json.loads(call.arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        text = json.dumps(call.arguments, ensure_ascii=False)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    shown = text if len(text) <= _LONGEST_ARGUMENTS else f"{text[:_LONGEST_ARGUMENTS]} … ({len(text):,} characters)"
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def decision_in(messages: Sequence[Message]) -> Decision | None:
    """What the last message decides, if it answers a request for approval: the one that it names, or the newest."""
    if not messages or not isinstance(messages[-1], UserMessage):
        return None
    text = _text(messages[-1])
    if len(text) > _LONGEST_ANSWER or not ("apr_" in text or _MAY_DECIDE.match(text)):
        return None
    named = _REFERENCE.search(text)
    words = _REFERENCE.sub("", text).replace("(reference )", "").strip().strip("*`\"'").strip()
    decided = _words(words)
    if decided is None:
        return None
    reference = named[0] if named else _asked_last(messages)
    return Decision(reference, *decided) if reference else None


def _words(words: str) -> tuple[tuple[int, ...] | None, str] | None:
    if approves := _APPROVES.fullmatch(words):
        numbers = tuple(int(number) for number in re.findall(r"\d+", approves[1]))
        return numbers or None, ""
    if rejects := _REJECTS.fullmatch(words):
        return (), rejects[1].strip()
    return None


def _asked_last(messages: Sequence[Message]) -> str:
    """The reference in the newest assistant message: an older request has been passed over."""
    newest = next((one for one in reversed(messages) if isinstance(one, AssistantMessage)), None)
    found = _ASKED.findall(_text(newest)) if newest else []
    return found[-1] if found else ""


def _text(message: UserMessage | AssistantMessage) -> str:
    if isinstance(message.content, list):
        return text_of([part for part in message.content if isinstance(part, TextPart)])
    return message.content or ""
