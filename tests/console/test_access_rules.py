"""Grants, tool rules and the settings of access in the console: whom they are for, and what is odd about them."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from apps.access.keys import issue_key
from apps.access.models import AccessSettings, Grant, Team, ToolRule
from tests.factories import DropInFactory, GrantFactory

GRANTS = "/admin/access/grant/"
TOOL_RULES = "/admin/access/toolrule/"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalog() -> None:
    DropInFactory(agent_id="default/weather", tools=["get_weather"])
    DropInFactory(agent_id="labs/planner", tools=["delete_plan"])


def form(**fields: Any) -> dict[str, Any]:
    return {"effect": "allow", "agents": "default/*", "key": "", "team": "", "namespace": "", "note": "", **fields}


def tool_form(**fields: Any) -> dict[str, Any]:
    return form(**{"effect": "deny", "by": "tool", "pattern": "get_*", "agents": "*", **fields})


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def states(client: Client, url: str) -> list[str]:
    """The state of each row, as the list shows it."""
    rows = client.get(url).context["cl"].result_list
    return [row.remarks[-1].oddity.value if row.remarks else "in use" for row in rows]


class TestForWhom:
    def test_one_key_one_team_one_namespace_or_everyone(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=[])
        team = Team.objects.create(name="Support")
        for subject in ({"key": key.pk}, {"team": team.pk}, {"namespace": "labs"}, {}):
            admin_client.post(f"{GRANTS}add/", form(agents="*", **subject))
        assert {grant.whom for grant in Grant.objects.all()} == {
            f"key {key}", "team Support", "namespace labs", "everyone",
        }  # fmt: skip

    def test_two_subjects_are_refused_in_a_sentence(self, admin_client: Client) -> None:
        team = Team.objects.create(name="Support")
        response = admin_client.post(f"{GRANTS}add/", form(team=team.pk, namespace="labs"))
        assert errors(response) == {"__all__": ["Choose one of key, team and namespace, or none of them for everyone."]}

    @pytest.mark.parametrize(
        ("url", "fields", "field"),
        [
            (GRANTS, form(agents=""), "agents"),
            (GRANTS, form(agents="a b"), "agents"),
            (GRANTS, form(agents="!labs/*"), "agents"),
            (GRANTS, form(namespace="labs/*"), "namespace"),
            (TOOL_RULES, tool_form(pattern="a, b"), "pattern"),
            (TOOL_RULES, tool_form(agents="a b"), "agents"),
        ],
    )
    def test_bad_input_names_its_field(
        self, admin_client: Client, url: str, fields: dict[str, Any], field: str
    ) -> None:
        assert list(errors(admin_client.post(f"{url}add/", fields))) == [field]
        assert not Grant.objects.exists()
        assert not ToolRule.objects.exists()

    @pytest.mark.parametrize("url", [GRANTS, TOOL_RULES])
    def test_keys_and_teams_are_searched_not_listed(self, admin_client: Client, url: str) -> None:
        issue_key("one of many")
        page = admin_client.get(f"{url}add/").content.decode()
        assert page.count("data-ajax--url") == 2
        assert "one of many" not in page

    def test_form_suggests_what_the_catalog_has(self, admin_client: Client) -> None:
        page = admin_client.get(f"{TOOL_RULES}add/").content.decode()
        for text in ("labs", "labs/*", "labs/planner", "delete_plan"):
            assert f'<option value="{text}">' in page

    def test_list_is_filtered_by_whom(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=[])
        GrantFactory(key=key)
        GrantFactory(team=Team.objects.create(name="Support"))
        GrantFactory(namespace="labs")
        GrantFactory()
        found = {
            whom: [grant.whom for grant in admin_client.get(GRANTS, {"whom": whom}).context["cl"].result_list]
            for whom in ("key", "team", "namespace", "everyone")
        }
        assert found == {
            "key": [f"key {key}"],
            "team": ["team Support"],
            "namespace": ["namespace labs"],
            "everyone": ["everyone"],
        }


class TestOddities:
    def test_saving_a_glob_that_fits_nothing_warns(self, admin_client: Client) -> None:
        page = admin_client.post(f"{GRANTS}add/", form(agents="defualt/*"), follow=True).content.decode()
        assert "No agent fits defualt/* now. Check the spelling, unless the agent is to come." in page
        assert Grant.objects.count() == 1

    def test_saving_a_rule_that_never_speaks_warns(self, admin_client: Client) -> None:
        GrantFactory(agents="default/*", effect="deny")
        page = admin_client.post(f"{GRANTS}add/", form(), follow=True).content.decode()
        assert "It never speaks: “Deny agent default/* for everyone” does in its place." in page

    def test_saving_a_tool_rule_that_fits_nothing_warns(self, admin_client: Client) -> None:
        page = admin_client.post(f"{TOOL_RULES}add/", tool_form(pattern="drop_*"), follow=True).content.decode()
        assert "No known tool fits drop_* now." in page

    def test_saving_a_rule_in_use_does_not(self, admin_client: Client) -> None:
        page = admin_client.post(f"{GRANTS}add/", form(), follow=True)
        assert [message.level_tag for message in page.context["messages"]] == ["success"]

    def test_list_shows_and_filters_the_state_of_each(self, admin_client: Client) -> None:
        GrantFactory(agents="default/*", effect="deny")
        GrantFactory(agents="default/*")
        GrantFactory(agents="defualt/*")
        assert states(admin_client, GRANTS) == ["never speaks", "in use", "matches nothing now"]
        for state in ("in use", "never speaks", "matches nothing now"):
            assert states(admin_client, f"{GRANTS}?state={state}") == [state]

    def test_page_of_a_rule_says_it_too(self, admin_client: Client) -> None:
        row = GrantFactory(agents="defualt/*")
        assert "Matches nothing now" in admin_client.get(f"{GRANTS}{row.pk}/change/").content.decode()


class TestLists:
    @pytest.mark.parametrize("rows", [1, 3])
    def test_cost_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        for number in range(rows):
            key, _ = issue_key(f"k{number}", agents=[f"default/{number}*"])
            ToolRule.objects.create(key=key, pattern=f"get_{number}", effect="deny")
        assert [count_queries(lambda url=url: admin_client.get(url)) for url in (GRANTS, TOOL_RULES)] == [7, 7]

    @pytest.mark.parametrize(
        ("url", "words"), [(GRANTS, "No key may use any agent."), (TOOL_RULES, "Every tool may be called.")]
    )
    def test_empty_list_says_what_holds_and_how_to_begin(self, admin_client: Client, url: str, words: str) -> None:
        assert words in admin_client.get(url).content.decode()

    def test_note_is_escaped(self, admin_client: Client) -> None:
        GrantFactory(note="<script>alert(1)</script>")
        assert "<script>alert(1)" not in admin_client.get(GRANTS).content.decode()


class TestSettings:
    def test_are_one_page_with_the_defaults_at_first(self, admin_client: Client) -> None:
        response = admin_client.get("/admin/access/accesssettings/", follow=True)
        assert response.redirect_chain == [(f"/admin/access/accesssettings/{AccessSettings.ROW}/change/", 302)]
        assert "in the namespace, such as default/refund-agent." in response.content.decode()
        admin_client.post(response.redirect_chain[0][0], {"inner_agents_obey_grants": "on"})
        assert AccessSettings.row().inner_agents_obey_grants

    def test_there_is_no_second_one(self, admin_client: Client) -> None:
        assert admin_client.get("/admin/access/accesssettings/add/").status_code == 403

    def test_grants_lead_to_them(self, admin_client: Client) -> None:
        response = admin_client.get(f"{GRANTS}settings/", follow=True)
        assert response.status_code == 200
        assert "settings/" in admin_client.get(GRANTS).content.decode()
