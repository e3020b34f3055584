"""What a client never saw of a conversation, and finds its place again."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from apps.execution.approvals import Asker
from apps.execution.models import OpenTurn
from apps.execution.open_turns import call_id, keep_open, new_reference, restored

pytestmark = pytest.mark.django_db(transaction=True)  # another thread writes

WHOSE = Asker(1, "ada", "desk/helper", "digest")


def message(*ids: str) -> dict[str, Any]:
    made = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": id}


async def test_hidden_messages_take_their_place_again() -> None:
    reference = new_reference()
    first, second = call_id(reference, 0), call_id(reference, 1)
    hidden = [message("a"), result("a"), message("b", first, second), result("b")]
    await keep_open(reference, hidden, WHOSE)
    user = {"role": "user", "content": "Go"}

    whole = await restored([user, message(first, second), result(second), result(first)], WHOSE)
    part = await restored([user, message(second), result(second), user], WHOSE)

    assert whole == [user, *hidden, result(second), result(first)]
    assert part == [user, message("a"), result("a"), message("b", second), result("b"), result(second), user]


@pytest.mark.parametrize(
    "other", [Asker(2, "ada", "desk/helper", ""), Asker(1, "eve", "desk/helper", ""), Asker(1, "ada", "desk/other", "")]
)
async def test_another_key_person_or_agent_sees_what_it_sent(other: Asker) -> None:
    reference = new_reference()
    await keep_open(reference, [message("a"), result("a"), message(call_id(reference, 0))], WHOSE)
    seen = [message(call_id(reference, 0)), result(call_id(reference, 0))]

    assert await restored(seen, other) == seen
    assert len(await restored(seen, Asker(1, "ada", "desk/helper", "edited since"))) == 4


async def test_what_has_expired_or_cannot_be_read_is_left_out_and_goes() -> None:
    old, new = new_reference(), new_reference()
    await keep_open(old, [message("a"), result("a"), message(call_id(old, 0))], WHOSE)
    with override_settings(SECRET_KEY="another" * 9):
        assert await restored([message(call_id(old, 0))], WHOSE) == [message(call_id(old, 0))]
    await OpenTurn.objects.filter(pk=old).aupdate(expires_at=timezone.now() - timedelta(seconds=1))

    assert await restored([message(call_id(old, 0))], WHOSE) == [message(call_id(old, 0))]
    await keep_open(new, [message("a")], WHOSE)
    assert [row.pk async for row in OpenTurn.objects.all()] == [new]


async def test_messages_are_encrypted_at_rest() -> None:
    await keep_open(new_reference(), [{"role": "tool", "tool_call_id": "a", "content": "a secret"}], WHOSE)

    row = await OpenTurn.objects.aget()
    assert "secret" not in row.encrypted_messages
