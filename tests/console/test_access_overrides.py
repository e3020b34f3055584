"""Overrides in the console: made for a while, listed with the time left, taken back."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from apps.access.keys import issue_key
from apps.access.models import Override
from apps.access.overrides import override
from apps.access.policy import Effect, Kind
from apps.core import clock
from tests.factories import DropInFactory

LIST = "/admin/access/override/"
ADD = f"{LIST}add/"

pytestmark = pytest.mark.django_db


def form(**fields: Any) -> dict[str, Any]:
    return {
        "effect": "allow", "about": "agent", "pattern": "labs/*", "key": "", "duration": "3600", "minutes": "",
        "reason": "An incident.", **fields,
    }  # fmt: skip


def make(pattern: str = "labs/*", ttl: timedelta = timedelta(hours=1), **fields: Any) -> Override:
    given: dict[str, Any] = {"effect": Effect.ALLOW, "about": Kind.AGENT, "reason": "x", "author": "ada"} | fields
    return override(pattern=pattern, ttl=ttl, **given)


def errors(response: Any) -> list[str]:
    return list(response.context["adminform"].form.errors)


class TestMaking:
    @pytest.mark.parametrize(
        ("fields", "ttl"),
        [
            ({"duration": "3600"}, timedelta(hours=1)),
            ({"duration": "28800"}, timedelta(hours=8)),
            ({"duration": "604800"}, timedelta(days=7)),
            ({"duration": "minutes", "minutes": "5"}, timedelta(minutes=5)),
        ],
    )
    def test_lasts_as_long_as_asked_and_names_its_author(
        self, admin_client: Client, fields: dict[str, str], ttl: timedelta
    ) -> None:
        key, _ = issue_key("k")
        admin_client.post(ADD, form(key=key.pk, **fields))
        made = Override.objects.get()
        assert timedelta() <= clock.now() + ttl - made.expires_at < timedelta(seconds=30)
        assert (made.key, made.effect, made.about, made.pattern) == (key, "allow", "agent", "labs/*")
        assert (made.reason, made.author) == ("An incident.", "admin")

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"pattern": ""}, "pattern"),
            ({"pattern": "a b"}, "pattern"),
            ({"about": "tool", "pattern": "a, b"}, "pattern"),
            ({"duration": "minutes"}, "minutes"),
            ({"duration": "minutes", "minutes": "0"}, "minutes"),
            ({"duration": "minutes", "minutes": "129601"}, "minutes"),  # 90 days and a minute
            ({"reason": "  "}, "reason"),
            ({"effect": ""}, "effect"),
        ],
    )
    def test_bad_input_names_its_field(self, admin_client: Client, fields: dict[str, str], field: str) -> None:
        assert errors(admin_client.post(ADD, form(**fields))) == [field]
        assert not Override.objects.exists()

    def test_link_fills_the_form(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        asked = {"key": key.pk, "effect": "allow", "about": "tool", "pattern": "get_*", "reason": "Denied before."}
        shown = admin_client.get(ADD, asked).context["adminform"].form
        assert {name: str(shown[name].value()) for name in asked} == {name: str(value) for name, value in asked.items()}

    def test_one_that_fits_nothing_warns(self, admin_client: Client) -> None:
        DropInFactory(agent_id="labs/planner", tools=["delete_plan"])
        for pattern, tags in (("labs/*", ["success"]), ("lbas/*", ["warning", "success"])):
            page = admin_client.post(ADD, form(pattern=pattern), follow=True)
            assert [message.level_tag for message in page.context["messages"]] == tags


class TestEnding:
    def test_page_ends_it_and_changes_nothing_else(self, admin_client: Client) -> None:
        made = make()
        url = f"{LIST}{made.pk}/change/"
        assert 'name="pattern"' not in admin_client.get(url).content.decode()
        response = admin_client.post(f"{LIST}{made.pk}/end_this/", {"_form_submitted": "on"})
        assert response["HX-Redirect"] == url
        assert Override.objects.get().state(clock.now()) == "ended"
        assert admin_client.post(f"{LIST}{made.pk}/end_this/", {"_form_submitted": "on"}).status_code == 403

    def test_selected_ones_in_force_are_ended(self, admin_client: Client) -> None:
        first, second = make(), make()
        Override.objects.filter(pk=second.pk).update(expires_at=clock.now())
        chosen = {"action": "end", "_selected_action": [first.pk, second.pk]}
        page = admin_client.post(LIST, chosen, follow=True).content.decode()
        assert "1 override ended, in all workers within a second." in page

    def test_what_is_in_force_cannot_be_deleted(self, admin_client: Client) -> None:
        made = make()
        url = f"{LIST}{made.pk}/delete/"
        assert admin_client.post(url, {"post": "yes"}).status_code == 403
        admin_client.post(LIST, {"action": "delete_selected", "_selected_action": [made.pk], "post": "yes"})
        assert Override.objects.count() == 1
        Override.objects.update(expires_at=clock.now())
        assert admin_client.post(url, {"post": "yes"}).status_code == 302
        assert not Override.objects.exists()


class TestList:
    def test_shows_the_time_left_in_words(self, admin_client: Client) -> None:
        make(ttl=timedelta(hours=7, minutes=30, seconds=30))
        make(ttl=timedelta(seconds=50))
        over = make()
        Override.objects.filter(pk=over.pk).update(expires_at=clock.now() - timedelta(days=2, minutes=1))
        taken_back = make()
        Override.objects.filter(pk=taken_back.pk).update(ended_at=clock.now() - timedelta(hours=3, minutes=1))
        page = admin_client.get(LIST).content.decode().replace("\xa0", " ")
        for words in ("7 hours, 30 minutes left", "Expired 2 days ago", "Ended 3 hours ago"):
            assert words in page
        assert re.search(r"\d+ seconds left", page)

    def test_is_filtered_by_state(self, admin_client: Client) -> None:
        make("in/force")
        over = make("over/now")
        Override.objects.filter(pk=over.pk).update(expires_at=clock.now())
        found = {
            state: [made.pattern for made in admin_client.get(LIST, {"state": state}).context["cl"].result_list]
            for state in ("in-force", "over")
        }
        assert found == {"in-force": ["in/force"], "over": ["over/now"]}

    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        for number in range(rows):
            make(key=issue_key(f"k{number}")[0])
        assert count_queries(lambda: admin_client.get(LIST)) == 5

    def test_empty_list_says_what_it_is_for(self, admin_client: Client) -> None:
        assert "An override allows or denies something for a while" in admin_client.get(LIST).content.decode()
