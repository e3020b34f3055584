from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from apps.catalog.declared_checks import check_settings
from apps.catalog.models import (
    AgentSettings,
    AgentVersion,
    Diagnostic,
    DropIn,
    PinnedVersion,
    ServingWorker,
    State,
)
from apps.core import clock
from apps.core.models import ConfigVersion

LIST = "/admin/catalog/dropin/"

pytestmark = pytest.mark.django_db


def agent(name: str, state: State = State.LIVE, **fields: Any) -> DropIn:
    found = {"folder_id": f"default/{name}", "folder": f"/agents/{name}", "name": name, "tools": ["clock"]}
    return DropIn.objects.create(agent_id=f"default/{name}", state=state, **found | fields)


def diagnose(row: DropIn, reason: str = "No module named 'requests'", **fields: Any) -> None:
    found = {"code": "import_error", "severity": "error", "remedy": "Install it.", "file": "agent.py", "line": 7}
    Diagnostic.objects.create(agent_id=row.agent_id, reason=reason, **found | fields)


def version(row: DropIn, digest: str, **fields: Any) -> AgentVersion:
    now = clock.now()
    kept = {"archive": b"files", "size": 10, "file_count": 1, "first_loaded_at": now, "last_loaded_at": now}
    return AgentVersion.objects.create(folder_id=row.folder_id, digest=digest, **kept | fields)


def worker(versions: dict[str, str], *, silent_for: float = 0) -> ServingWorker:
    now = clock.now()
    number = ServingWorker.objects.count() + 1
    return ServingWorker.objects.create(
        worker_id=f"w{number}", host="box", pid=100 + number, started_at=now, discovery="watch",
        seen_at=now - timedelta(seconds=silent_for), versions=versions,
    )  # fmt: skip


def settings_form(row: DropIn, aliases: str = "", enabled: bool = True) -> dict[str, Any]:
    present = AgentSettings.objects.filter(drop_in=row).first()
    return {
        "settings-TOTAL_FORMS": "1",
        "settings-INITIAL_FORMS": "1" if present else "0",
        "settings-0-id": present.pk if present else "",
        "settings-0-drop_in": row.pk,
        "settings-0-aliases": aliases,
        "settings-0-on_disconnect": "cancel",
        **({"settings-0-enabled": "on"} if enabled else {}),
    }


class TestList:
    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        for number in range(rows):
            row = agent(f"a{number}")
            AgentSettings(drop_in=row).save()
            diagnose(row)
            worker({row.agent_id: "a1"})
            PinnedVersion(folder_id=row.folder_id, digest="a1").save()
        assert count_queries(lambda: admin_client.get(LIST)) == 6

    def test_shows_state_and_first_problem_in_words(self, admin_client: Client) -> None:
        agent("good")
        agent("stale", State.STALE)
        bad = agent("bad", State.BROKEN)
        diagnose(bad, "a warning", severity="warning")
        diagnose(bad)
        page = admin_client.get(LIST).content.decode()
        for word in ("Live", "Last good version", "Broken", "No module named &#x27;requests&#x27; (and 1 more)"):
            assert word in page

    def test_empty_list_says_how_to_add_the_first(self, admin_client: Client) -> None:
        page = admin_client.get(LIST).content.decode()
        assert "/Weather/agent.py" in page
        assert "manage.py check_agent" in page

    def test_says_what_was_put_back_and_where_workers_disagree(self, admin_client: Client) -> None:
        pinned, other = agent("pinned"), agent("other")
        PinnedVersion(folder_id=pinned.folder_id, digest="a1").save()
        worker({pinned.agent_id: "a1", other.agent_id: "a1"})
        worker({pinned.agent_id: "a1", other.agent_id: "b2"})
        rows = {row.agent_id: row for row in admin_client.get(LIST).context["cl"].result_list}
        assert {id: (row.is_pinned, row.is_disputed) for id, row in rows.items()} == {
            "default/pinned": (True, False),
            "default/other": (False, True),
        }
        page = admin_client.get(LIST).content.decode()
        assert page.count("Put back") == page.count("Workers disagree") == 1

    def test_nothing_is_added_by_hand(self, admin_client: Client) -> None:
        assert admin_client.get(f"{LIST}add/").status_code == 403

    @pytest.mark.parametrize(("enabled", "names"), [("yes", {"default/on"}), ("no", {"default/off"})])
    def test_filters_by_enabled(self, admin_client: Client, enabled: str, names: set[str]) -> None:
        agent("on")
        AgentSettings(drop_in=agent("off"), enabled=False).save()
        rows = admin_client.get(LIST, {"enabled": enabled}).context["cl"].result_list
        assert {row.agent_id for row in rows} == names


class TestActions:
    def test_disable_and_enable_with_and_without_settings(self, admin_client: Client) -> None:
        first, second, third = (agent(name) for name in "abc")
        AgentSettings(drop_in=first, aliases=["helpdesk"]).save()
        before = ConfigVersion.current()
        chosen = {"action": "disable", "_selected_action": [first.pk, second.pk]}
        assert "2 agents disabled" in admin_client.post(LIST, chosen, follow=True).content.decode()
        assert ConfigVersion.current() > before
        assert dict(AgentSettings.objects.values_list("drop_in", "enabled")) == {first.pk: False, second.pk: False}
        assert AgentSettings.objects.get(drop_in=first).aliases == ["helpdesk"]

        chosen = {"action": "enable", "_selected_action": [first.pk, third.pk]}
        assert "2 agents enabled" in admin_client.post(LIST, chosen, follow=True).content.decode()
        enabled = dict(AgentSettings.objects.values_list("drop_in", "enabled"))
        assert enabled == {first.pk: True, second.pk: False, third.pk: True}


class TestDetail:
    def test_shows_reason_place_and_remedy(self, admin_client: Client) -> None:
        row = agent("bad", State.STALE, digest="a" * 64, loaded_at=clock.now())
        version(row, "a" * 64)
        diagnose(row, "<b>No module</b>")
        page = admin_client.get(f"{LIST}{row.pk}/change/").content.decode()
        for text in (
            "&lt;b&gt;No module&lt;/b&gt;",
            "agent.py:7",
            "Install it.",
            "the version before this edit serves",
        ):
            assert text in page

    def test_code_is_read_only_and_settings_are_not(self, admin_client: Client) -> None:
        row = agent("a")
        changed = settings_form(row, "helpdesk\n support/desk ", enabled=False) | {"agent_id": "other", "name": "x"}
        admin_client.post(f"{LIST}{row.pk}/change/", changed)
        row.refresh_from_db()
        assert (row.agent_id, row.name) == ("default/a", "a")
        assert (row.settings.enabled, row.settings.aliases) == (False, ["helpdesk", "support/desk"])

    def test_settings_are_edited_again(self, admin_client: Client) -> None:
        row = agent("a")
        AgentSettings(drop_in=row, aliases=["one"]).save()
        page = admin_client.get(f"{LIST}{row.pk}/change/")
        inline = page.context["inline_admin_formsets"][0].formset
        assert inline.forms[0]["aliases"].value() == "one"
        admin_client.post(f"{LIST}{row.pk}/change/", settings_form(row))
        assert AgentSettings.objects.get().aliases == []

    @pytest.mark.parametrize("alias", ["Upper", "with space", "a/b/c", "/a", "default/other"])
    def test_impossible_alias_is_refused(self, admin_client: Client, alias: str) -> None:
        agent("other")
        row = agent("a")
        response = admin_client.post(f"{LIST}{row.pk}/change/", settings_form(row, alias))
        assert response.status_code == 200
        assert list(response.context["errors"])
        assert not AgentSettings.objects.exists()

    @pytest.mark.parametrize("alias", ["DESK", "desk"])
    def test_alias_that_differs_only_in_case_is_refused(self, admin_client: Client, alias: str) -> None:
        other = agent("other")
        AgentSettings(drop_in=other, aliases=["Desk"]).save()  # as only a program can
        row = agent("a")
        admin_client.post(f"{LIST}{row.pk}/change/", settings_form(row, alias))
        assert not AgentSettings.objects.filter(drop_in=row).exists()
        with pytest.raises(ValidationError):
            check_settings(AgentSettings(drop_in=row, aliases=[alias]))

    def test_only_what_is_gone_can_be_deleted(self, admin_client: Client) -> None:
        live, gone = agent("live"), agent("gone", State.GONE)
        assert admin_client.post(f"{LIST}{live.pk}/delete/", {"post": "yes"}).status_code == 403
        assert admin_client.post(f"{LIST}{gone.pk}/delete/", {"post": "yes"}).status_code == 302
        assert list(DropIn.objects.values_list("agent_id", flat=True)) == ["default/live"]
