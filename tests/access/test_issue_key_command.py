from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.access.keys import find_key
from apps.access.models import ApiKey
from apps.core import clock

pytestmark = pytest.mark.django_db


def run(*arguments: Any) -> str:
    out = StringIO()
    call_command("issue_key", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_prints_the_key_alone_so_that_a_script_can_take_it() -> None:
    known = find_key(run("Open WebUI").strip())
    assert known is not None
    assert (known.name, known.may_chat, known.may_administer) == ("Open WebUI", True, False)
    assert ApiKey.objects.get().globs == ["*"]


def test_options_limit_the_key() -> None:
    credential = run("ops", "--admin", "--no-chat", "--agents", "a/*", "b/*", "--expires-days", "2").strip()
    known = find_key(credential)
    assert known is not None
    assert (known.may_chat, known.may_administer) == (False, True)
    assert ApiKey.objects.get().globs == ["a/*", "b/*"]
    assert known.expires_at is not None
    assert timedelta(days=1.9) < known.expires_at - clock.now() <= timedelta(days=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "needs a name"),
        (["x" * 101], "needs a name"),
        (["x", "--no-chat"], "could do nothing"),
        (["x", "--expires-days", "0"], "takes the days"),
        (["x", "--expires-days", "-3"], "takes the days"),
        (["x", "--expires-days", "1e9"], "takes the days"),
        (["x", "--expires-days", "nan"], "takes the days"),
        (["x", "--agents", "with space"], "no glob"),
    ],
)
def test_bad_input_is_explained(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)
    assert not ApiKey.objects.exists()
