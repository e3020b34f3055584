from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template

from apps.core.ages import age, ago

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "words"),
    [
        (timedelta(seconds=-3), "0 seconds"),  # by another machine's clock
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=59), "59 seconds"),
        (timedelta(seconds=60), "1\xa0minute"),
        (timedelta(days=3, hours=5), "3\xa0days"),
    ],
)
def test_age_in_words(since: timedelta, words: str) -> None:
    assert age(NOW - since, NOW) == words
    shown = Template("{% load ages %}{{ at|ago:now }}").render(Context({"at": NOW - since, "now": NOW}))
    assert shown.endswith(f">{words} ago</span>")


def test_exact_time_is_under_the_pointer() -> None:
    assert 'title="2026-11-25 11:00:00 UTC"' in ago(NOW - timedelta(hours=1), NOW)


def test_what_has_no_beginning_has_no_age() -> None:
    assert (age(None, NOW), ago(None)) == ("", "-")
