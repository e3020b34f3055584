import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from apps.access.admin.key_form import ApiKeyForm
from apps.access.keys import digest, find_key, issue_key, rotate_key
from apps.access.models import ApiKey, Team
from apps.core import clock, live_config
from apps.core.secrets import decrypt

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
            ({"ip_ranges": "10.0.0.0/8\n10.0.0.256"}, "ip_ranges"),
            ({"ip_ranges": "10.0.0.0/33"}, "ip_ranges"),
            ({"ip_ranges": "localhost"}, "ip_ranges"),
            ({"origins": "chat.example.com"}, "origins"),
            ({"origins": "https://chat.example.com/page"}, "origins"),
            ({"origins": "https://*.example.com"}, "origins"),
            ({"origins": "https://chat.example.com:99999"}, "origins"),
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


class TestWhereFrom:
    def test_addresses_and_origins_are_compared_with_what_comes(self, admin_client: Client) -> None:
        origins = "HTTPS://Chat.Example.com/\nhttps://chat.example.com:443\nhttp://localhost:3000"
        _, credential = issue(admin_client, ip_ranges="10.1.2.3/8\n 2001:db8::/32 \n\n192.0.2.7", origins=origins)
        known = find_key(credential)
        assert known is not None
        assert list(known.ip_ranges) == ["10.1.2.3/8", "2001:db8::/32", "192.0.2.7"]
        assert list(known.origins) == ["https://chat.example.com", "http://localhost:3000"]
        assert [known.admits_address(one) for one in ("10.9.9.9", "192.0.2.8", "2001:db8::1")] == [True, False, True]

    def test_wrong_line_is_named(self, admin_client: Client) -> None:
        assert errors(admin_client, ip_ranges="10.0.0.0/8\nhome")["ip_ranges"] == [
            "“home” is no address and no range such as 10.0.0.0/8."
        ]


class TestPersons:
    def secret(self, key: ApiKey) -> str:
        key.refresh_from_db()
        return decrypt(key.encrypted_identity_secret) if key.encrypted_identity_secret else ""

    def test_secret_is_stored_encrypted_and_never_shown(self, admin_client: Client) -> None:
        key, _ = issue(admin_client, identity_secret="shared with the chat UI", trusts_identity_headers="on")
        page = admin_client.get(f"{LIST}{key.pk}/change/").content.decode()
        assert (self.secret(key), key.trusts_identity_headers) == ("shared with the chat UI", True)
        assert "One is stored, encrypted." in page
        assert "shared with the chat UI" not in page
        assert key.encrypted_identity_secret not in page

    def test_empty_keeps_it_a_new_one_replaces_it_and_a_switch_removes_it(self, admin_client: Client) -> None:
        key, _ = issue(admin_client, identity_secret="first")
        url = f"{LIST}{key.pk}/change/"
        kept = []
        for fields in ({}, {"identity_secret": "second"}, {"clear_identity_secret": "on"}):
            admin_client.post(url, form(**fields))
            kept.append(self.secret(key))
        assert kept == ["first", "second", ""]

    def test_switch_is_shown_only_while_there_is_a_secret(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        url = f"{LIST}{key.pk}/change/"
        assert "clear_identity_secret" not in admin_client.get(url).content.decode()
        key.set_identity_secret("x")
        key.save()
        assert "clear_identity_secret" in admin_client.get(url).content.decode()

    def test_new_secret_and_none_at_once_is_refused(self, admin_client: Client) -> None:
        key, _ = issue(admin_client, identity_secret="first")
        asked = {"identity_secret": "second", "clear_identity_secret": "on"}
        assert list(errors(admin_client, f"{LIST}{key.pk}/change/", **asked)) == ["identity_secret"]
        assert self.secret(key) == "first"


class TestRotating:
    def rotate(self, client: Client, key: ApiKey, overlap: int) -> tuple[str, str]:
        """The page, and the credential on it."""
        response = client.post(f"{LIST}{key.pk}/rotate/", {"overlap": overlap, "confirmed": "yes"})
        assert "no-store" in response["Cache-Control"]
        page = response.content.decode()
        (credential,) = set(CREDENTIAL.findall(page))
        live_config.forget()
        return page, credential

    def test_asks_for_the_overlap_first(self, admin_client: Client) -> None:
        key, credential = issue_key("k")
        page = admin_client.get(f"{LIST}{key.pk}/rotate/").content.decode()
        for words in ("stops at once", "1 more hour", "24 more hours", "7 more days"):
            assert words in page
        assert find_key(credential) is not None
        assert ApiKey.objects.get().previous_digest == ""

    @pytest.mark.parametrize(("overlap", "hours"), [(3600, 1), (86400, 24), (604800, 168)])
    def test_both_count_for_the_overlap(self, admin_client: Client, overlap: int, hours: int) -> None:
        key, former = issue_key("k")
        page, credential = self.rotate(admin_client, key, overlap)
        until = ApiKey.objects.get().previous_until
        assert until is not None
        assert timedelta(hours=hours) - timedelta(minutes=1) < until - clock.now() <= timedelta(hours=hours)
        assert "The former credential counts until" in page
        after = until + timedelta(seconds=1)
        assert [find_key(one) is not None for one in (credential, former)] == [True, True]
        assert [find_key(one, after) is not None for one in (credential, former)] == [True, False]

    def test_former_stops_at_once(self, admin_client: Client) -> None:
        key, former = issue_key("k")
        page, credential = self.rotate(admin_client, key, 0)
        assert "The former credential counts no more" in page
        assert [find_key(one) is not None for one in (credential, former)] == [True, False]

    def test_page_says_that_the_former_counts_and_ends_it(self, admin_client: Client) -> None:
        key, former = issue_key("k")
        rotate_key(key, at=clock.now(), overlap=timedelta(hours=1))
        page = admin_client.get(f"{LIST}{key.pk}/change/").content.decode()
        assert "End the former now" in page
        assert re.search(r"Counts for (1\xa0hour|59\xa0minutes) more", page)
        admin_client.post(f"{LIST}{key.pk}/end_former/", {"_form_submitted": "on"})
        live_config.forget()
        assert find_key(former) is None
        page = admin_client.get(f"{LIST}{key.pk}/change/").content.decode()
        assert "none counts" in page
        assert "End the former now" not in page

    def test_form_that_is_saved_at_the_same_moment_leaves_the_new_credential(self, admin_user: User) -> None:
        key, _ = issue_key("k")
        request = RequestFactory().post(f"{LIST}{key.pk}/change/")
        request.user = admin_user
        saved = ApiKeyForm(form(name="renamed"), instance=ApiKey.objects.get())
        assert saved.is_valid()
        credential = rotate_key(key, at=clock.now())

        site._registry[ApiKey].save_model(request, saved.save(commit=False), saved, True)

        live_config.forget()
        found = find_key(credential)
        assert found is not None
        assert found.name == "renamed"

    def test_is_in_the_history_without_the_credential(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        _, credential = self.rotate(admin_client, key, 0)
        assert [entry.change_message for entry in LogEntry.objects.all()] == ["Rotated."]
        assert credential not in admin_client.get(f"{LIST}{key.pk}/history/").content.decode()

    def test_revoked_key_cannot_be_rotated(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        ApiKey.objects.revoke(clock.now())
        url = f"{LIST}{key.pk}/rotate/"
        assert admin_client.post(url, {"overlap": 0, "confirmed": "yes"}).status_code == 403
        assert ApiKey.objects.get().digest == key.digest


class TestTeams:
    def test_selected_keys_move_to_a_team_that_is_asked_for(self, admin_client: Client) -> None:
        team = Team.objects.create(name="Support")
        keys = [issue_key(name)[0] for name in "abc"]
        chosen = {"action": "move", "_selected_action": [key.pk for key in keys[:2]]}
        assert "no team" in admin_client.post(LIST, chosen).content.decode()
        page = admin_client.post(LIST, {**chosen, "team": team.pk, "confirmed": "yes"}, follow=True).content.decode()
        assert "2 keys moved to Support." in page
        assert list(ApiKey.objects.order_by("name").values_list("team", flat=True)) == [team.pk, team.pk, None]

    def test_list_is_filtered_by_team_and_says_that_it_is_suspended(self, admin_client: Client) -> None:
        team = Team.objects.create(name="Support", suspended=True, suspended_reason="A key leaked.")
        issue_key("theirs", team=team)
        issue_key("other")
        response = admin_client.get(LIST, {"team__id__exact": team.pk})
        assert [key.name for key in response.context["cl"].result_list] == ["theirs"]
        assert "Team suspended" in response.content.decode()


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
        issue_key("stopped", team=Team.objects.create(name="stopped", suspended=True))
        ApiKey.objects.filter(name="gone").revoke(now)

    @pytest.mark.usefixtures("_one_of_each")
    @pytest.mark.parametrize(
        ("state", "names"),
        [
            ("active", {"lasting", "ending"}),
            ("soon", {"ending"}),
            ("expired", {"ended"}),
            ("revoked", {"gone"}),
            ("suspended", {"stopped"}),
        ],
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
        assert len(queries) == 7

    def test_empty_list_says_how_to_begin(self, admin_client: Client) -> None:
        assert "Nobody can call the gateway yet" in admin_client.get(LIST).content.decode()
