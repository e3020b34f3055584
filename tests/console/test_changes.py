"""The history of changes in the console."""

from collections.abc import Callable
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.access.models import ApiKey, Team
from apps.console.templatetags.changes import changes_url
from apps.core.audit import Author, written_by
from tests.factories import ApiKeyFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/auditlog/logentry/"


@pytest.fixture
def console(admin_user: User) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def text(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_edit_in_the_console_is_signed_by_its_user(console: Client, admin_user: User) -> None:
    key = ApiKeyFactory.create(name="Open WebUI")
    form = {"name": "LibreChat", "may_chat": "on", "agents": "*", "expires_at_0": "", "expires_at_1": ""}

    answer = console.post(
        reverse("admin:access_apikey_change", args=[key.pk]), form, headers={"x-forwarded-for": "6.6.6.6"}
    )

    assert answer.status_code == 302
    entry = LogEntry.objects.get_for_object(key).filter(action=LogEntry.Action.UPDATE).get()
    assert (entry.changes, entry.actor, entry.additional_data) == (
        {"name": ["Open WebUI", "LibreChat"]},
        admin_user,
        {"author": "admin", "address": "127.0.0.1"},
    )


def test_list_is_called_as_the_sidebar_has_it(console: Client) -> None:
    page = text(console, LIST)
    assert ("Log entries" in page, "log entr" in page.lower(), "<title>" in page) == (False, False, True)


def test_list_shows_what_was_done_to_what_by_whom(console: Client) -> None:
    with written_by(lambda: Author("Automation", key_id=3)):
        team = Team.objects.create(name="Labs")
    team.suspended = True
    team.save()
    team.delete()

    page = text(console, LIST)

    assert [word in page for word in ("Created", "Updated", "Deleted", "key Automation", "command")] == [True] * 5


def test_list_is_filtered_and_searched(console: Client) -> None:
    Team.objects.create(name="Labs")
    upstream = UpstreamFactory.create(slug="gpu-box")
    upstream.default_model = "llama"
    upstream.save()

    def found(**query: Any) -> list[str]:
        answer = console.get(LIST, query)
        return [entry.object_repr for entry in answer.context["cl"].result_list]

    assert found() == ["gpu-box", "gpu-box", "Labs"]
    assert found(action=LogEntry.Action.UPDATE) == ["gpu-box"]
    assert found(q="llama") == ["gpu-box"]
    assert [entry.object_repr for entry in console.get(changes_url(upstream)).context["cl"].result_list] == [
        "gpu-box",
        "gpu-box",
    ]


def test_page_of_a_change_shows_both_values_and_escapes_them(console: Client) -> None:
    team = Team.objects.create(name="<b>Labs</b>")
    team.name = "<i>Lab</i>"
    team.save()
    entry = LogEntry.objects.get(action=LogEntry.Action.UPDATE)

    page = text(console, reverse("admin:auditlog_logentry_change", args=[entry.pk]))

    assert "<b>name</b>: &lt;b&gt;Labs&lt;/b&gt; → &lt;i&gt;Lab&lt;/i&gt;" in page


def test_nobody_writes_history(console: Client) -> None:
    Team.objects.create(name="Labs")
    entry = LogEntry.objects.get()

    posted = [
        console.post(reverse("admin:auditlog_logentry_add"), {}).status_code,
        console.post(reverse("admin:auditlog_logentry_change", args=[entry.pk]), {}).status_code,
        console.post(reverse("admin:auditlog_logentry_delete", args=[entry.pk]), {"post": "yes"}).status_code,
    ]

    assert (posted, LogEntry.objects.count()) == ([403, 403, 403], 1)


def test_number_of_queries_does_not_grow_with_the_rows(
    console: Client, count_queries: Callable[[Callable[[], Any]], int]
) -> None:
    Team.objects.create(name="Labs")
    one = count_queries(lambda: text(console, LIST))
    for number in range(5):
        Team.objects.create(name=f"Team {number}")

    assert count_queries(lambda: text(console, LIST)) == one


def test_history_of_an_object_links_to_its_changes_for_those_who_may_see_them(
    console: Client, admin_user: User
) -> None:
    key = ApiKeyFactory.create()
    history = reverse("admin:access_apikey_history", args=[key.pk])
    told = "What was changed, with the values before and after"
    seen = told in text(console, history)

    User.objects.filter(pk=admin_user.pk).update(is_superuser=False)
    admin_user.user_permissions.add(Permission.objects.get(codename="view_apikey"))

    assert (seen, told in text(console, history)) == (True, False)


def test_sidebar_has_the_page_for_those_who_may_see_it(console: Client, admin_user: User) -> None:
    seen = f'href="{LIST}"' in text(console, "/admin/")

    User.objects.filter(pk=admin_user.pk).update(is_superuser=False)

    assert (seen, f'href="{LIST}"' in text(console, "/admin/")) == (True, False)


def test_key_of_the_console_is_listed_once_for_each_grant(console: Client) -> None:
    """Issuing a key over the console is a key and its grants, all signed alike."""
    form = {"name": "New", "may_chat": "on", "agents": "default/*\nlabs/*", "expires_at_0": "", "expires_at_1": ""}

    console.post(reverse("admin:access_apikey_add"), form)

    assert ApiKey.objects.count() == 1
    assert [(one.content_type.model, one.additional_data["author"]) for one in LogEntry.objects.order_by("pk")] == [
        ("apikey", "admin"),
        ("grant", "admin"),
        ("grant", "admin"),
    ]
