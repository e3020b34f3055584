import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.access.keys import digest, find_key, issue_key
from apps.access.models import ApiKey
from apps.core import clock

LIST = "/admin/access/apikey/"
ADD = f"{LIST}add/"
CREDENTIAL = re.compile(r"agw_[0-9a-f]{8}_[\w-]{43}")

pytestmark = pytest.mark.django_db


def form(**fields: Any) -> dict[str, Any]:
    return {"name": "Open WebUI", "may_chat": "on", "agents": "*", "expires_at_0": "", "expires_at_1": "", **fields}


def issue(client: Client, **fields: Any) -> tuple[ApiKey, str]:
    page = client.post(ADD, form(**fields)).content.decode()
    found = set(CREDENTIAL.findall(page))
    assert len(found) == 1
    return ApiKey.objects.get(), found.pop()


def errors(client: Client, url: str = ADD, **fields: Any) -> dict[str, list[str]]:
    response = client.post(url, form(**fields))
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return dict(found)


class TestIssuing:
    def test_key_is_shown_and_authenticates(self, admin_client: Client) -> None:
        key, credential = issue(admin_client, agents="default/*\n labs/*planner* \n\ndefault/*")
        known = find_key(credential)
        assert known is not None
        assert (known.id, known.may_chat, known.may_administer) == (key.pk, True, False)
        assert key.globs == ["default/*", "labs/*planner*"]
        assert str(key.created_by) == "admin"

    def test_key_is_shown_once(self, admin_client: Client) -> None:
        key, credential = issue(admin_client)
        for url in (LIST, f"{LIST}{key.pk}/change/", f"{LIST}{key.pk}/history/", "/admin/"):
            page = admin_client.get(url).content.decode()
            assert credential not in page
            assert key.digest not in page
        assert not LogEntry.objects.filter(change_message__contains=credential).exists()

    def test_only_the_digest_is_stored(self, admin_client: Client) -> None:
        key, credential = issue(admin_client)
        assert key.digest == digest(credential)
        assert credential not in str(ApiKey.objects.values().get())

    def test_page_is_kept_by_no_cache_and_has_a_line_to_paste(self, admin_client: Client) -> None:
        response = admin_client.post(ADD, form())
        page = response.content.decode()
        assert "no-store" in response["Cache-Control"]
        assert "curl http://testserver/v1/models -H &quot;x-api-key: agw_" in page
        assert 'data-copies="credential"' in page

    def test_admin_only_key_offers_no_chat(self, admin_client: Client) -> None:
        page = admin_client.post(ADD, form(may_chat="", may_administer="on")).content.decode()
        assert "/v1/models" not in page

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"name": ""}, "name"),
            ({"name": "x" * 101}, "name"),
            ({"agents": "default/*\nwith space"}, "agents"),
            ({"agents": "a\x00b"}, "agents"),
            ({"may_chat": ""}, "__all__"),
            ({"expires_at_0": "2001-01-01", "expires_at_1": "00:00"}, "expires_at"),
            ({"expires_at_0": "soon", "expires_at_1": ""}, "expires_at"),
        ],
    )
    def test_bad_input_names_its_field(self, admin_client: Client, fields: dict[str, str], field: str) -> None:
        assert list(errors(admin_client, **fields)) == [field]
        assert not ApiKey.objects.exists()

    def test_name_is_escaped(self, admin_client: Client) -> None:
        page = admin_client.post(ADD, form(name="<script>alert(1)</script>")).content.decode()
        assert "<script>alert(1)" not in page

    def test_new_form_offers_all_agents(self, admin_client: Client) -> None:
        assert admin_client.get(ADD).context["adminform"].form["agents"].value() == "*"

    def test_visitor_is_sent_to_the_login(self) -> None:
        response = Client().post(ADD, form())
        assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={ADD}")
        assert not ApiKey.objects.exists()


class TestEditing:
    def test_globs_and_scopes_change_and_the_credential_stays(self, admin_client: Client) -> None:
        key, credential = issue(admin_client)
        admin_client.post(f"{LIST}{key.pk}/change/", form(name="Renamed", agents="labs/*", may_administer="on"))
        known = find_key(credential)
        assert known is not None
        assert (known.name, key.globs, known.may_administer) == ("Renamed", ["labs/*"], True)

    def test_form_shows_one_glob_a_line(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=["a/*", "b/*"])
        page = admin_client.get(f"{LIST}{key.pk}/change/")
        assert page.context["adminform"].form["agents"].value() == "a/*\nb/*"


class TestEnding:
    def test_revoking_asks_first(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        page = admin_client.post(LIST, {"action": "revoke", "_selected_action": [key.pk]}).content.decode()
        assert "Revoke 1 key" in page
        assert ApiKey.objects.get().revoked_at is None

    def test_revoking_ends_what_is_in_force(self, admin_client: Client) -> None:
        (first, credential), (second, _), (third, _) = (issue_key(name) for name in "abc")
        ApiKey.objects.filter(pk=second.pk).revoke(clock.now())
        chosen = {"action": "revoke", "_selected_action": [first.pk, second.pk], "confirmed": "yes"}
        page = admin_client.post(LIST, chosen, follow=True).content.decode()
        assert "1 key revoked, in all workers within a second" in page
        known = find_key(credential)
        assert known is not None
        assert not known.is_in_force(clock.now())
        third.refresh_from_db()
        assert third.state() == "active"

    def test_detail_button_asks_and_revokes(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        url = f"{LIST}{key.pk}/revoke_this/"
        assert "Revoke this key?" in admin_client.get(url).content.decode()
        assert ApiKey.objects.get().revoked_at is None
        response = admin_client.post(url, {"_form_submitted": "on"})
        assert response["HX-Redirect"] == f"{LIST}{key.pk}/change/"
        assert ApiKey.objects.get().state() == "revoked"
        assert LogEntry.objects.get().change_message == "Revoked."
        assert admin_client.post(url, {"_form_submitted": "on"}).status_code == 403

    def test_expire_now_ends_those_in_force(self, admin_client: Client) -> None:
        keys = [issue_key(name)[0] for name in "ab"]
        ApiKey.objects.filter(pk=keys[1].pk).revoke(clock.now())
        chosen = {"action": "expire_now", "_selected_action": [key.pk for key in keys]}
        assert "1 key expired." in admin_client.post(LIST, chosen, follow=True).content.decode()
        assert [key.state() for key in ApiKey.objects.order_by("name")] == ["expired", "revoked"]

    def test_extend_revives_an_expired_key_and_no_revoked_one(self, admin_client: Client) -> None:
        past = clock.now() - timedelta(days=1)
        keys = [issue_key(name, expires_at=past)[0] for name in "ab"]
        ApiKey.objects.filter(pk=keys[1].pk).revoke(clock.now())
        chosen = {"action": "extend", "_selected_action": [key.pk for key in keys]}
        assert "1 key now ends 90 days from now" in admin_client.post(LIST, chosen, follow=True).content.decode()
        assert [key.state() for key in ApiKey.objects.order_by("name")] == ["active", "revoked"]

    def test_only_a_revoked_key_can_be_deleted(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        url = f"{LIST}{key.pk}/delete/"
        assert admin_client.post(url, {"post": "yes"}).status_code == 403
        ApiKey.objects.revoke(clock.now())
        assert admin_client.post(url, {"post": "yes"}).status_code == 302
        assert not ApiKey.objects.exists()

    def test_selected_keys_cannot_be_deleted_in_bulk(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        ApiKey.objects.revoke(clock.now())
        admin_client.post(LIST, {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"})
        assert ApiKey.objects.count() == 1


class TestList:
    @pytest.fixture
    def _one_of_each(self) -> None:
        now = clock.now()
        issue_key("lasting")
        issue_key("ending", expires_at=now + timedelta(days=3, hours=1))
        issue_key("ended", expires_at=now - timedelta(days=3))
        issue_key("gone")
        ApiKey.objects.filter(name="gone").revoke(now)

    @pytest.mark.usefixtures("_one_of_each")
    @pytest.mark.parametrize(
        ("state", "names"),
        [("active", {"lasting", "ending"}), ("soon", {"ending"}), ("expired", {"ended"}), ("revoked", {"gone"})],
    )
    def test_filters_by_state(self, admin_client: Client, state: str, names: set[str]) -> None:
        rows = admin_client.get(LIST, {"state": state}).context["cl"].result_list
        assert {row.name for row in rows} == names

    @pytest.mark.usefixtures("_one_of_each")
    def test_shows_states_in_words(self, admin_client: Client) -> None:
        page = admin_client.get(LIST).content.decode()
        for word in ("Active", "Expires in 3 d", "Expired", "Revoked"):
            assert word in page

    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(self, admin_client: Client, rows: int) -> None:
        for number in range(rows):
            issue_key(f"key {number}")
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(LIST)
        assert len(queries) == 6

    def test_empty_list_says_how_to_begin(self, admin_client: Client) -> None:
        assert "Nobody can call the gateway yet" in admin_client.get(LIST).content.decode()
