"""Runs that wait for a person: a tool with `needs_approval` ends its run, and the next message decides.

The state of such a run stays here, encrypted; the client holds a reference. A reference counts once, for the key that
got it, for the version of the agent that asked, until GATEWAY_APPROVAL_TTL seconds have passed.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import msgspec
import structlog
from agents import Agent, RunResultStreaming, RunState
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone
from pydantic import BaseModel, TypeAdapter

from apps.access.subject import Subject
from apps.core.errors import ApprovalClosed, Unavailable
from apps.core.secrets import SecretUnreadable, decrypt, encrypt
from apps.execution import steps
from apps.execution.events import ApprovalWanted, WantedCall
from apps.execution.models import Approval, StepKind

log = structlog.get_logger(__name__)

_database = ThreadPoolExecutor(max_workers=1, thread_name_prefix="approvals")


class Decision(msgspec.Struct, frozen=True):
    """What a person said about the calls that a run wants to make: `only` numbers the approved ones, from 1.

    `only` None approves all, `()` rejects all, and the model is told `reason`.
    """

    reference: str
    only: tuple[int, ...] | None
    reason: str = ""

    def approves(self, number: int) -> bool:
        return self.only is None or number in self.only


class Asker(msgspec.Struct, frozen=True):
    """Whose run it is: a reference is good for nobody and nothing else."""

    key_id: int
    user_id: str
    agent_id: str
    digest: str


def asker(subject: Subject | None, agent_id: str, digest: str) -> Asker:
    user = subject.user if subject else None
    return Asker(subject.key.id if subject else 0, user.id if user else "", agent_id, digest)


class Resumption(msgspec.Struct, frozen=True):
    """A stored run and what was decided about it."""

    state: str
    decision: Decision


async def ask(result: RunResultStreaming, asker: Asker, *, follows_text: bool) -> ApprovalWanted:
    """Store the SDK's run and say what it waits for. Raises Unavailable when that is not possible."""
    calls = tuple(WantedCall(item.name or "", item.arguments or "") for item in result.interruptions)
    state = result.to_state().to_string(context_serializer=_context_values)
    return await ask_about(calls, state, asker, follows_text=follows_text)


async def ask_about(calls: tuple[WantedCall, ...], state: str, asker: Asker, *, follows_text: bool) -> ApprovalWanted:
    """Store any run: `state` is what it goes on with. Raises Unavailable when that is not possible."""
    reference = f"apr_{secrets.token_hex(8)}"
    await in_database(_store, reference, asker, calls, state)
    for call in calls:
        steps.note(StepKind.APPROVAL, call.name, "waiting", {"reference": reference})
    return ApprovalWanted(reference, calls, follows_text)


async def take(decision: Decision, asker: Asker) -> Resumption:
    """The run that a decision is about; nobody can take it again. Raises ApprovalClosed."""
    state = await in_database(_take, decision, asker)
    return Resumption(state, decision)


async def resumed(agent: Agent[Any], resumption: Resumption, context_type: Callable[[], Any] | None) -> RunState[Any]:
    """The state to run on with. Raises the SDK's UserError when the agent is not the one that was stored."""
    state: RunState[Any] = await RunState.from_string(
        agent, resumption.state, context_deserializer=lambda values: _context_of(context_type, values)
    )
    for number, item in enumerate(state.get_interruptions(), start=1):
        note_decision(item.name or "", resumption.decision, number)
        if resumption.decision.approves(number):
            state.approve(item)
        else:
            state.reject(item, rejection_message=rejection(resumption.decision.reason))
    return state


def note_decision(tool: str, decision: Decision, number: int) -> None:
    """What was decided about a call, as a step of the run that goes on."""
    outcome = "approved" if decision.approves(number) else "rejected"
    steps.note(StepKind.APPROVAL, tool, outcome, {"reference": decision.reference})


def rejection(reason: str) -> str:
    """What the model is told."""
    return f"A person rejected this tool call: {reason}" if reason else "A person rejected this tool call."


async def in_database(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, called in the one thread that keeps waiting runs. Raises Unavailable."""
    return await asyncio.get_running_loop().run_in_executor(_database, _closing, function, *arguments)


def _closing(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Error as error:
        raise Unavailable("A waiting run cannot be stored or read: the database does not answer. Try again.") from error
    finally:
        connection.close()  # runs that wait are rare: no connection is kept for them


def _store(reference: str, asker: Asker, calls: tuple[WantedCall, ...], state: str) -> None:
    now = timezone.now()
    Approval.objects.filter(expires_at__lt=now).delete()
    Approval.objects.create(
        id=reference,
        agent_id=asker.agent_id,
        agent_digest=asker.digest,
        key_id=asker.key_id,
        user_id=asker.user_id,
        calls=[{"name": call.name, "arguments": call.arguments} for call in calls],
        encrypted_state=encrypt(state),
        created_at=now,
        expires_at=now + timedelta(seconds=settings.GATEWAY_APPROVAL_TTL),
    )
    log.info("approval_wanted", reference=reference, agent=asker.agent_id, tools=[call.name for call in calls])


def _take(decision: Decision, asker: Asker) -> str:
    row = Approval.objects.filter(
        id=decision.reference,
        key_id=asker.key_id,
        user_id=asker.user_id,
        agent_id=asker.agent_id,
        expires_at__gt=timezone.now(),
    ).first()
    if row is None:
        raise ApprovalClosed(f"There is no open approval {decision.reference} here: it has expired, or is not yours.")
    if row.agent_digest != asker.digest:
        raise ApprovalClosed("The agent has been changed since it asked for this approval. Ask it again.")
    numbers = range(1, len(row.calls) + 1)
    if wrong := [number for number in decision.only or () if number not in numbers]:
        raise ApprovalClosed(f"There is no call {wrong[0]} to approve; there are {len(row.calls)}.")
    if not row.decide(approved=[number for number in numbers if decision.approves(number)]):
        raise ApprovalClosed(f"The approval {decision.reference} has been decided already.")
    log.info("approval_decided", reference=row.id, agent=row.agent_id, approved=row.approved)
    try:
        return decrypt(row.encrypted_state)
    except SecretUnreadable as error:
        raise ApprovalClosed("The stored run cannot be read: the gateway's secret key is another one.") from error


# --- the run's context, when it is one that the gateway built ---------------------------------------------------------


def _context_values(context: Any) -> Mapping[str, Any]:
    """What of a context can be stored. One that cannot is built anew, as at the beginning of every run."""
    if isinstance(context, Mapping):
        return context
    if not isinstance(context, BaseModel) and not dataclasses.is_dataclass(context):
        return {}
    try:
        values: dict[str, Any] = TypeAdapter(type(context)).dump_python(context, mode="json")
    except Exception as error:  # noqa: BLE001  # a field of any class of the module's
        log.warning("context_not_stored", context=type(context).__name__, reason=str(error))
        return {}
    return values


def _context_of(context_type: Callable[[], Any] | None, values: Mapping[str, Any]) -> Any:
    if context_type is None:
        return dict(values)
    if not values:
        return context_type()
    return TypeAdapter[Any](cast("Any", context_type)).validate_python(values)
