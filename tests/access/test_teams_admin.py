from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.access.decide import Action, Target, decide
from apps.access.keys import find_key, issue_key
from apps.access.models import ApiKey, Team
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Subject
from apps.core import clock, live_config

LIST = "/admin/access/team/"

pytestmark = pytest.mark.django_db


def reason_of_refusal(credential: str) -> str:
    """What a caller with this credential is told, "" when it is allowed."""
    live_config.forget()
    key = find_key(credential)
    assert key is not None
    decision = decide(policy_in_force(), Subject(key), Action.CHAT, Target("default/a"), at=clock.now())
    return "" if decision.allowed else decision.reason


@pytest.fixture
def team() -> Team:
    return Team.objects.create(name="Support")


class TestKillSwitch:
    def test_button_asks_why_and_refuses_every_key_of_the_team(self, admin_client: Client, team: Team) -> None:
        credentials = [issue_key(name, team=team)[1] for name in "ab"]
        url = f"{LIST}{team.pk}/suspend_this/"
        assert "Suspend this team?" in admin_client.get(url).content.decode()
        admin_client.post(url, {"_form_submitted": "on", "reason": ""})
        assert [reason_of_refusal(one) for one in credentials] == ["", ""]
        response = admin_client.post(url, {"_form_submitted": "on", "reason": "a key leaked."})
        assert response["HX-Redirect"] == f"{LIST}{team.pk}/change/"
        sentence = "The team 'Support' is suspended: a key leaked."
        assert [reason_of_refusal(one) for one in credentials] == [sentence, sentence]
        assert LogEntry.objects.get().change_message == "Suspended: a key leaked."

    def test_resuming_lets_them_in_again(self, admin_client: Client, team: Team) -> None:
        _, credential = issue_key("k", team=team)
        team.suspend("a key leaked")
        assert "Resume" in admin_client.get(f"{LIST}{team.pk}/change/").content.decode()
        admin_client.post(f"{LIST}{team.pk}/resume_this/", {"_form_submitted": "on"})
        assert reason_of_refusal(credential) == ""

    def test_each_button_is_there_when_it_would_change_something(self, admin_client: Client, team: Team) -> None:
        urls = [f"{LIST}{team.pk}/{verb}_this/" for verb in ("suspend", "resume")]
        assert [admin_client.get(url).status_code for url in urls] == [200, 403]
        team.suspend("x")
        assert [admin_client.get(url).status_code for url in urls] == [403, 200]

    def test_selected_teams_are_suspended_after_a_reason_and_resumed(self, admin_client: Client) -> None:
        teams = [Team.objects.create(name=name, suspended=name == "c") for name in "abc"]
        chosen: dict[str, Any] = {"action": "suspend", "_selected_action": [team.pk for team in teams]}
        assert "Suspend 2 teams" in admin_client.post(LIST, chosen).content.decode()
        assert "This field is required" in admin_client.post(LIST, {**chosen, "confirmed": "yes"}).content.decode()
        assert Team.objects.filter(suspended=True).count() == 1
        answered = {**chosen, "confirmed": "yes", "reason": "an audit"}
        page = admin_client.post(LIST, answered, follow=True).content.decode()
        assert "2 teams suspended, in all workers within a second." in page
        assert list(Team.objects.values_list("suspended_reason", flat=True)) == ["an audit", "an audit", ""]
        page = admin_client.post(LIST, {**chosen, "action": "resume"}, follow=True).content.decode()
        assert "3 teams resumed" in page
        assert not Team.objects.filter(suspended=True).exists()

    def test_suspended_team_cannot_be_deleted_because_its_keys_would_work_again(
        self, admin_client: Client, team: Team
    ) -> None:
        issue_key("k", team=team)
        team.suspend("x")
        assert admin_client.post(f"{LIST}{team.pk}/delete/", {"post": "yes"}).status_code == 403
        team.resume()
        assert admin_client.post(f"{LIST}{team.pk}/delete/", {"post": "yes"}).status_code == 302
        assert ApiKey.objects.get().team is None

    def test_button_needs_the_permission(self, django_user_model: Any, team: Team) -> None:
        client = Client()
        client.force_login(django_user_model.objects.create_user("reader", password="x", is_staff=True))
        url = f"{LIST}{team.pk}/suspend_this/"
        assert client.post(url, {"_form_submitted": "on", "reason": "x"}).status_code == 403
        assert not Team.objects.get().suspended


class TestList:
    def test_counts_keys_and_shows_the_state(self, admin_client: Client, team: Team) -> None:
        for name in "ab":
            issue_key(name, team=team)
        Team.objects.create(name="Other", suspended=True, suspended_reason="a key leaked")
        page = admin_client.get(LIST).content.decode()
        for words in ("2 keys", "0 keys", "Active", "Suspended", "a key leaked"):
            assert words in page

    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(self, admin_client: Client, rows: int) -> None:
        for number in range(rows):
            issue_key("k", team=Team.objects.create(name=f"team {number}"))
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(LIST)
        assert len(queries) == 5

    def test_empty_list_says_how_to_begin(self, admin_client: Client) -> None:
        assert "Add one, then choose it on the keys" in admin_client.get(LIST).content.decode()
