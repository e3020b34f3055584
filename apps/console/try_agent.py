"""Trying a declared agent on its page in the admin: as it is saved, drafts too, for staff who may change it.

The same run as a client's, told to the page as server-sent events of its own, because there is more to tell than a
chat shows: tools as they are called, and failures in words. The Run says whose session it was.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import structlog
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from apps.access.limiting import Admission
from apps.access.subject import EndUser, Key, Subject
from apps.catalog import registry
from apps.catalog.declared import Declared, declared
from apps.catalog.models import DeclaredAgent
from apps.core import live_config
from apps.core.errors import GatewayError, InvalidRequest
from apps.core.json import encode
from apps.execution.events import (
    ApprovalWanted,
    Finished,
    HandedOff,
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    TextDelta,
    ToolFinished,
    ToolStarted,
)
from apps.execution.execute import execute
from apps.observability import trace_context
from apps.openai_api.approvals import request_text
from apps.openai_api.errors import error_response
from apps.openai_api.orders import order_for
from apps.openai_api.pipeline import record, run_for
from apps.openai_api.schemas import ChatCompletionRequest

_NO_KEY: Final = 0  # a session has none; only rules for everyone speak about its tools
_MOST_SHOWN: Final = 2000  # characters of a tool's arguments or output

log = structlog.get_logger(__name__)


def try_agent(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Takes {"messages": [...]} as a chat does; answers with events {"kind", "text"}, else with an error object."""
    if not request.user.has_perm("catalog.change_declaredagent"):
        raise PermissionDenied
    agent = declared(get_object_or_404(DeclaredAgent, pk=pk))
    try:
        asked = _asked(request.body, agent)
    except GatewayError as error:
        return error_response(request, error)
    live_config.refresh()  # what was saved a moment ago counts
    response = StreamingHttpResponse(_frames(agent, asked, _subject(request)), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold the stream back
    return response


try_agent_view = admin.site.admin_view(require_POST(try_agent))  # with the check of the CSRF token


def _asked(body: bytes, agent: Declared) -> ChatCompletionRequest:
    """Raises InvalidRequest."""
    try:
        given = json.loads(body)
        return ChatCompletionRequest.model_validate(
            {"model": agent.agent_id, "messages": given["messages"], "stream": True}
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidRequest("This is no conversation: reload the page, and try again.") from error


def _subject(request: HttpRequest) -> Subject:
    user = request.user
    assert isinstance(user, User)
    name = user.get_username()
    person = EndUser(f"console:{user.pk}", user.email, user.get_full_name() or name, verified=True)
    return Subject(Key(_NO_KEY, f"console: {name}"), person, request.META.get("REMOTE_ADDR", ""))


async def _frames(agent: Declared, asked: ChatCompletionRequest, subject: Subject) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(_events(agent, asked, subject)) as events:
            async for event in events:
                if told := _told(event):
                    yield _frame(told)
    except GatewayError as error:
        yield _frame({"kind": "error", "text": error.message})
    except Exception as error:  # a stream must not be cut without a word
        log.error("trial_crashed", agent=agent.agent_id, exc_info=error)
        yield _frame({"kind": "error", "text": "The gateway itself failed. Its log says why."})


async def _events(agent: Declared, asked: ChatCompletionRequest, subject: Subject) -> AsyncGenerator[RunEvent, None]:
    order = await order_for(registry.declared_entry(agent), agent, subject, asked, {})
    trace_context.begin(order.run_id)
    run = run_for(order, subject, streamed=True)
    run.key_id = None
    async with aclosing(record(execute(order), order, run, Admission())) as events:
        async for event in events:
            yield event


def _told(event: RunEvent) -> dict[str, Any] | None:  # noqa: PLR0911  # a table
    match event:
        case TextDelta():
            return {"kind": "text", "text": event.text}
        case ReasoningDelta():
            return {"kind": "reasoning", "text": event.text}
        case RefusalDelta():
            return {"kind": "refusal", "text": event.text}
        case ToolStarted():
            return {"kind": "tool", "text": f"→ {event.name}({_short(event.arguments)})"}
        case ToolFinished():
            return {"kind": "tool", "text": f"← {_short(event.output)}"}
        case HandedOff():
            return {"kind": "note", "text": f"Handed over to {event.target}."}
        case ApprovalWanted():
            return {"kind": "approval", "text": request_text(event)}
        case Finished():
            return {"kind": "end", "text": _ending(event)}
    return None


def _short(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({len(text):,} characters)"


def _ending(event: Finished) -> str:
    usage = event.usage
    calls = f"{usage.model_calls} model {'call' if usage.model_calls == 1 else 'calls'}"
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens{' (estimated)' if usage.estimated else ''}"
    cut = " Cut short: the limit of tokens was reached." if event.reason == "length" else ""
    return f"{calls}, {tokens}.{cut}"


def _frame(told: dict[str, Any]) -> bytes:
    return b"data: " + encode(told) + b"\n\n"
