from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils.html import escape

from apps.core import clock
from apps.core.models import ConfigVersion
from apps.upstreams.models import Kind, Upstream, UpstreamHealth, UpstreamModel

LIST = "/admin/upstreams/upstream/"
ADD = f"{LIST}add/"
CONFIRM = {"_form_submitted": "on"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo_url(manage: Callable[..., Any]) -> str:
    """The base URL of a demo upstream that runs as a process."""
    process = manage("demo_upstream", "--port", "0", "--delay", "0")
    line: str = process.stdout.readline()
    return next(word for word in line.split() if word.startswith("http"))


def upstream(slug: str = "box", **fields: Any) -> Upstream:
    row = Upstream(slug=slug, **{"base_url": "http://127.0.0.1:9/v1", "kind": Kind.OTHER} | fields)
    row.save()
    return row


def form(**fields: Any) -> dict[str, Any]:
    return {
        "slug": "box",
        "kind": "other",
        "base_url": "http://127.0.0.1:9/v1",
        "new_secret": "",
        "default_model": "",
        "enabled": "on",
        "connect_timeout": "5",
        "first_event_timeout": "120",
        "silence_timeout": "60",
        "queue_size": "100",
        "queue_timeout": "30",
        "retries": "1",
        "cooldown": "15",
        "models-TOTAL_FORMS": "0",
        "models-INITIAL_FORMS": "0",
        **fields,
    }


def change(client: Client, row: Upstream, **fields: Any) -> Any:
    return client.post(f"{LIST}{row.pk}/change/", form(**fields), follow=True)


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


class TestAdding:
    def test_reads_the_models_and_chooses_one(
        self, admin_client: Client, demo_url: str, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            admin_client.post(ADD, form(base_url=demo_url, is_default="on"))
        row = Upstream.objects.get()
        assert (row.default_model, row.is_default, row.models.count() > 0) == ("demo", True, True)

    def test_unreachable_server_is_stored_with_its_problem(
        self, admin_client: Client, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            admin_client.post(ADD, form())
        assert Upstream.objects.get().last_error.startswith("Nothing listens at http://127.0.0.1:9/v1")
        assert "Nothing listens" in admin_client.get("/admin/").content.decode()

    @pytest.mark.parametrize(
        ("base_url", "stored"),
        [
            ("http://ollama:11434/v1", "http://ollama:11434/v1"),
            (" http://box/v1/ ", "http://box/v1"),
            ("http://box/v1/chat/completions", "http://box/v1"),
            ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ],
    )
    def test_base_url_is_taken_as_people_write_it(self, admin_client: Client, base_url: str, stored: str) -> None:
        admin_client.post(ADD, form(base_url=base_url))
        assert Upstream.objects.get().base_url == stored

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"base_url": ""}, "base_url"),
            ({"base_url": "nonsense"}, "base_url"),
            ({"base_url": "ftp://box/v1"}, "base_url"),
            ({"base_url": "http://box:99999/v1"}, "base_url"),
            ({"base_url": "http://"}, "base_url"),
            ({"base_url": "javascript:alert(1)"}, "base_url"),
            ({"slug": "Has Space"}, "slug"),
            ({"new_secret": "a\nb"}, "new_secret"),
            ({"new_secret": "sk-…"}, "new_secret"),
            ({"base_url": "http://ann:s3cret@box/v1"}, "base_url"),
            ({"connect_timeout": "0"}, "connect_timeout"),
            ({"max_concurrency": "0"}, "max_concurrency"),
            ({"max_concurrency": "-1"}, "max_concurrency"),
            ({"queue_size": "-1"}, "queue_size"),
            ({"queue_timeout": "-1"}, "queue_timeout"),
            ({"retries": "-1"}, "retries"),
            ({"retries": "many"}, "retries"),
            ({"cooldown": "-0.5"}, "cooldown"),
        ],
    )
    def test_bad_input_names_its_field(self, admin_client: Client, fields: dict[str, str], field: str) -> None:
        assert list(errors(admin_client.post(ADD, form(**fields)))) == [field]
        assert not Upstream.objects.exists()

    def test_used_name_is_refused(self, admin_client: Client) -> None:
        upstream()
        assert list(errors(admin_client.post(ADD, form()))) == ["slug"]

    def test_demo_needs_no_address(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(kind="demo", base_url=""))
        assert Upstream.objects.get().kind == Kind.DEMO

    def test_form_carries_each_kinds_presets(self, admin_client: Client) -> None:
        page = admin_client.get(ADD).content.decode()
        assert "data-presets" in page
        assert "/static/console/upstream.js" in page
        assert "Nothing is known of it" not in page


class TestSecret:
    def test_is_stored_encrypted_and_never_shown(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(new_secret="sk-very-secret"))
        row = Upstream.objects.get()
        assert row.secret == "sk-very-secret"
        assert "sk-very-secret" not in row.encrypted_secret
        page = admin_client.get(f"{LIST}{row.pk}/change/").content.decode()
        assert "sk-very-secret" not in page
        assert row.encrypted_secret not in page

    def test_who_may_only_look_sees_the_rest_of_the_page(self, db: None) -> None:
        row = upstream(slug="box")
        row.secret = "sk-very-secret"
        row.save()
        looking = User.objects.create_user("looking", password="x", is_staff=True)
        looking.user_permissions.add(Permission.objects.get(codename="view_upstream"))
        client = Client()
        client.force_login(looking)

        page = client.get(f"{LIST}{row.pk}/change/")

        assert page.status_code == 200
        shown = page.content.decode()
        assert row.base_url in shown
        assert [one for one in ("sk-very-secret", row.encrypted_secret, "API key of the server") if one in shown] == []

    def test_blank_keeps_it(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(new_secret="sk-one"))
        change(admin_client, Upstream.objects.get(), default_model="m")
        assert Upstream.objects.get().secret == "sk-one"

    def test_new_one_replaces_it(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(new_secret="sk-one"))
        change(admin_client, Upstream.objects.get(), new_secret=" sk-two ")
        assert Upstream.objects.get().secret == "sk-two"

    def test_is_cleared_when_asked(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(new_secret="sk-one"))
        change(admin_client, Upstream.objects.get(), clear_secret="on")
        assert Upstream.objects.get().encrypted_secret == ""


class TestDefault:
    def test_saving_as_default_takes_it_from_the_other(self, admin_client: Client) -> None:
        upstream("first").make_default()
        change(admin_client, upstream("second"), slug="second", is_default="on")
        assert list(Upstream.objects.values_list("slug", "is_default")) == [("first", False), ("second", True)]

    def test_default_cannot_be_unset_without_another(self, admin_client: Client) -> None:
        row = upstream()
        row.make_default()
        change(admin_client, row)
        assert Upstream.objects.get().is_default

    def test_button_makes_it_the_default(self, admin_client: Client) -> None:
        upstream("first").make_default()
        second = upstream("second")
        before = ConfigVersion.current()
        url = f"{LIST}{second.pk}/make_default/"
        admin_client.get(url)
        assert not Upstream.objects.get(slug="second").is_default  # a link alone changes nothing
        assert admin_client.post(url, CONFIRM)["HX-Redirect"] == f"{LIST}{second.pk}/change/"
        assert Upstream.objects.get(is_default=True).slug == "second"
        assert ConfigVersion.current() > before
        assert admin_client.post(url, CONFIRM).status_code == 403  # it is already

    def test_button_needs_the_permission(self, django_user_model: Any) -> None:
        reader = django_user_model.objects.create_user("reader", password="x", is_staff=True)
        client = Client()
        client.force_login(reader)
        row = upstream()
        for button in ("make_default", "test", "read_models"):
            assert client.post(f"{LIST}{row.pk}/{button}/", CONFIRM).status_code == 403
        assert not Upstream.objects.get().is_default


class TestButtons:
    def test_test_reports_each_step_in_words(self, admin_client: Client, demo_url: str) -> None:
        row = upstream(base_url=demo_url)
        response = admin_client.post(f"{LIST}{row.pk}/test/", CONFIRM)
        page = admin_client.get(response["HX-Redirect"]).content.decode()
        assert "The server lists 1 model: demo" in page
        assert "demo answered in" in page

    def test_test_of_a_dead_server_gives_the_remedy(self, admin_client: Client) -> None:
        row = upstream()
        response = admin_client.post(f"{LIST}{row.pk}/test/", CONFIRM)
        assert "is the server started?" in admin_client.get(response["HX-Redirect"]).content.decode()

    def test_read_models_stores_them(self, admin_client: Client, demo_url: str) -> None:
        row = upstream(base_url=demo_url)
        admin_client.post(f"{LIST}{row.pk}/read_models/", CONFIRM)
        assert list(UpstreamModel.objects.values_list("name", flat=True)) == ["demo"]

    def test_those_chosen_in_the_list_are_read_together(self, admin_client: Client, demo_url: str) -> None:
        rows = [upstream("alive", base_url=demo_url), upstream("dead")]
        chosen = {"action": "read_chosen", "_selected_action": [row.pk for row in rows]}
        page = admin_client.post(LIST, chosen, follow=True).content.decode()
        assert "The models of 1 server read." in page
        assert "dead: Nothing listens at" in page

    @pytest.mark.parametrize("button", ["test", "read_models", "make_default"])
    def test_unknown_row_is_not_found(self, admin_client: Client, button: str) -> None:
        assert admin_client.post(f"{LIST}9999/{button}/", CONFIRM).status_code in {403, 404}


class TestList:
    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        for number in range(rows):
            UpstreamModel(upstream=upstream(f"box-{number}"), name="m").save()
        assert count_queries(lambda: admin_client.get(LIST)) == 6

    def test_shows_states_in_words(self, admin_client: Client) -> None:
        upstream("dead", last_error="x")
        upstream("new")
        upstream("off", enabled=False)
        upstream("demo", kind=Kind.DEMO)
        page = admin_client.get(LIST).content.decode()
        for word in ("Down", "Not tried yet", "Disabled", "Demo, no LLM"):
            assert word in page

    def test_models_are_suggested_and_listed(self, admin_client: Client) -> None:
        row = upstream()
        UpstreamModel(upstream=row, name="qwen<3>").save()
        page = admin_client.get(f"{LIST}{row.pk}/change/").content.decode()
        assert '<option value="qwen&lt;3&gt;">' in page
        assert "qwen<3>" not in page


class TestHealth:
    def test_page_says_how_it_fares_and_what_to_do(self, admin_client: Client) -> None:
        row = upstream()
        since = clock.now() - timedelta(minutes=5)
        for worker, state, reason in (("a:1", "down", "It <hangs>."), ("b:1", "healthy", "")):
            UpstreamHealth.objects.create(
                upstream=row, worker=worker, state=state, reason=reason, since=since, seen_at=clock.now(), waiting=3
            )

        response = admin_client.get(f"{LIST}{row.pk}/change/")

        health, page = response.context["health"], response.content.decode()
        assert (health.label, health.reason) == (("Degraded", "warning"), "Down for 1 of 2 workers: It <hangs>.")
        assert "5\xa0minutes" in health.since
        assert [(one.worker, one.label[0], one.load) for one in health.workers] == [
            ("a:1", "Down", "0 running, 3 waiting"),
            ("b:1", "Healthy", "0 running, 3 waiting"),
        ]
        assert "It &lt;hangs&gt;." in page
        assert escape(health.remedy) in page

    @pytest.mark.parametrize(
        ("fields", "words", "remedy"),
        [
            ({}, "Not tried yet", "Press Test: it reads the models and asks one of them for a word."),
            ({"last_error": "Off.", "last_error_code": "upstream_unreachable"}, "Down", "Mend it there."),
            ({"last_error": "401.", "last_error_code": "upstream_unauthorised"}, "Down", "Enter its API key again"),
            ({"enabled": False, "last_error": "Off."}, "Disabled", ""),
            ({"models_read_at": timedelta()}, "Healthy", ""),
            (
                {"models_read_at": timedelta(days=3)},
                "Unknown",
                "Press Test: it reads the models and asks one of them for a word.",
            ),
        ],
    )
    def test_remedy_stands_beside_the_problem(
        self, admin_client: Client, fields: dict[str, Any], words: str, remedy: str
    ) -> None:
        read = {name: clock.now() - age for name, age in fields.items() if isinstance(age, timedelta)}
        row = upstream(**fields | read)

        health = admin_client.get(f"{LIST}{row.pk}/change/").context["health"]

        assert (health.label[0], health.remedy.startswith(remedy), bool(health.remedy)) == (words, True, bool(remedy))

    def test_open_page_is_told_what_changes(self, admin_client: Client) -> None:
        row = upstream()
        url = f"{LIST}{row.pk}/health/"
        assert f'hx-get="{url}"' in admin_client.get(f"{LIST}{row.pk}/change/").content.decode()
        upstream_seen = {"since": clock.now(), "seen_at": clock.now()}
        UpstreamHealth.objects.create(upstream=row, worker="a:1", state="down", reason="It hangs.", **upstream_seen)

        part = admin_client.get(url).content.decode()

        assert ("It hangs." in part, "<html" in part) == (True, False)
        assert admin_client.get(f"{LIST}999/health/").status_code == 404

    def test_list_tells_the_problem_and_since_when(self, admin_client: Client) -> None:
        upstream(last_error="It is off.", answered_at=clock.now() - timedelta(hours=2))
        assert "For 2\xa0hours: It is off." in admin_client.get(LIST).content.decode()

    def test_dashboard_leads_to_what_is_down_or_degraded(self, admin_client: Client) -> None:
        down, shaky, off = upstream("one", last_error="Off."), upstream("two"), upstream("three", enabled=False)
        for row in (shaky, off):
            UpstreamHealth.objects.create(
                upstream=row, worker="a:1", state="degraded", reason="Slow.", since=clock.now(), seen_at=clock.now()
            )

        context = admin_client.get("/admin/").context

        found = [(one.title, one.link, one.is_urgent) for one in context["matters"] if one.link != LIST]
        assert [one for one in found if LIST in one[1]] == [
            ("one is down: Off.", f"{LIST}{down.pk}/change/", True),
            ("two is degraded: Slow.", f"{LIST}{shaky.pk}/change/", False),
        ]
        (tile,) = [tile for tile in context["tiles"] if tile.title == "Upstreams"]
        assert (tile.number, tile.word, tile.text) == ("1 of 2", "Down", "default: none")
