"""Model routes in the console: their form, their list, and where a name leads."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client

from apps.catalog.models import AgentSettings, DeclaredAgent, Namespace
from apps.core import live_config
from apps.upstreams.leading import lead
from apps.upstreams.models import ModelRoute, RouteTarget, Upstream
from apps.upstreams.routing import ModelRef, Preference, upstreams
from tests.factories import DropInFactory, UpstreamFactory

LIST = "/admin/upstreams/modelroute/"
ADD = f"{LIST}add/"
WHERE = "/admin/upstreams/where/"

pytestmark = pytest.mark.django_db


def put(slug: str, *models: str, **fields: Any) -> Upstream:
    row: Upstream = UpstreamFactory.create(slug=slug, serves=models, **fields)
    return row


def route(pattern: str, *choices: tuple[Upstream, str, int, int], **fields: Any) -> ModelRoute:
    """`choices` are upstream, model, order and weight."""
    row = ModelRoute.objects.create(pattern=pattern, **fields)
    for upstream, model, order, weight in choices:
        RouteTarget.objects.create(route=row, upstream=upstream, model=model, order=order, weight=weight)
    return row


def form(pattern: str, *choices: dict[str, Any], initial: int = 0, **fields: Any) -> dict[str, Any]:
    data = {
        "pattern": pattern,
        "enabled": "on",
        "note": "",
        "targets-TOTAL_FORMS": str(len(choices)),
        "targets-INITIAL_FORMS": str(initial),
        **fields,
    }
    for number, choice in enumerate(choices):
        for name, value in {"model": "", "order": "1", "weight": "1", **choice}.items():
            data[f"targets-{number}-{name}"] = value
    return data


def told(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


class TestSaving:
    def test_route_is_saved_and_said_in_words(self, admin_client: Client) -> None:
        one, two = put("openai", "gpt-4o"), put("ollama", "qwen3")

        response = admin_client.post(
            ADD,
            form(
                "gpt-4o",
                {"upstream": one.pk, "model": "gpt-4o"},
                {"upstream": two.pk, "model": "qwen3", "order": "2"},
            ),
        )

        assert told(response)[0] == "gpt-4o → openai/gpt-4o, else ollama/qwen3, within a second."
        live_config.refresh()
        found = upstreams.current().route("gpt-4o").candidates
        assert [(one.target.slug, one.model) for one in found] == [("openai", "gpt-4o"), ("ollama", "qwen3")]

    def test_model_that_is_not_listed_is_a_warning_and_no_refusal(self, admin_client: Client) -> None:
        row = put("openai", "gpt-4o")
        silent = put("silent")  # it lists nothing, so that nothing is known

        response = admin_client.post(
            ADD,
            form("gpt-9", {"upstream": row.pk, "model": ""}, {"upstream": silent.pk, "model": "x"}),
        )

        assert told(response)[1:2] == ["openai does not list gpt-9: it is asked all the same, and may refuse."]
        assert ModelRoute.objects.get().targets.count() == 2

    @pytest.mark.parametrize(
        ("pattern", "choices", "problem"),
        [
            ("gpt-4o", [], "A route needs at least one choice"),
            ("gpt-4o", [{"upstream": "", "model": ""}], "A route needs at least one choice"),
            ("gpt-4o", [{"model": "m"}, {"model": "m", "order": "2"}], "the same upstream and model"),
            ("gpt 4o", [{}], "without spaces or commas"),
            ("a,b", [{}], "without spaces or commas"),
            (" ", [{}], "This field is required"),
            ("gpt-4o", [{"weight": "0"}], "greater than or equal to 1"),
            ("gpt-4o", [{"order": "-1"}], "greater than or equal to 0"),
            ("gpt-4o", [{"upstream": "999"}], "not one of the available choices"),
        ],
    )
    def test_bad_input_is_refused_in_words(
        self, admin_client: Client, pattern: str, choices: list[dict[str, Any]], problem: str
    ) -> None:
        row = put("box")

        page = admin_client.post(ADD, form(pattern, *({"upstream": row.pk, **one} for one in choices)))

        assert page.status_code == 200
        assert problem in page.content.decode()
        assert not ModelRoute.objects.exists()

    def test_used_name_is_refused(self, admin_client: Client) -> None:
        row = put("box")
        route("gpt-4o", (row, "", 1, 1))

        page = admin_client.post(ADD, form("gpt-4o", {"upstream": row.pk}))

        assert "already exists" in page.content.decode()

    def test_last_choice_cannot_be_deleted(self, admin_client: Client) -> None:
        row = put("box")
        saved = route("gpt-4o", (row, "m", 1, 1))
        choice = saved.targets.get()

        page = admin_client.post(
            f"{LIST}{saved.pk}/change/",
            form("gpt-4o", {"upstream": row.pk, "model": "m", "id": choice.pk, "DELETE": "on"}, initial=1),
        )

        assert "A route needs at least one choice" in page.content.decode()
        assert saved.targets.count() == 1

    def test_models_of_each_upstream_are_suggested(self, admin_client: Client) -> None:
        row = put("box", "qwen<3>")

        page = admin_client.get(ADD).content.decode()

        assert f'data-models="{{&quot;{row.pk}&quot;: [&quot;qwen&lt;3&gt;&quot;]}}"' in page
        assert "/static/console/route.js" in page

    def test_whoever_may_change_a_route_may_change_its_choices(self, django_user_model: Any) -> None:
        user = django_user_model.objects.create_user("ann", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["add_modelroute", "view_modelroute"]))
        client = Client()
        client.force_login(user)
        row = put("box")

        client.post(ADD, form("gpt-4o", {"upstream": row.pk}))

        assert ModelRoute.objects.get().targets.count() == 1


class TestList:
    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        for number in range(rows):
            route(f"gpt-{number}", (put(f"box-{number}"), "m", 1, 1))
        assert count_queries(lambda: admin_client.get(LIST)) == 7

    def test_says_what_happens(self, admin_client: Client) -> None:
        one, two, off = put("one"), put("two"), put("off", enabled=False)
        route("gpt-*", (one, "big", 1, 3), (two, "", 1, 1), (off, "m", 2, 1))
        route("lost", (off, "m", 1, 1))
        route("idle", (one, "m", 1, 1), enabled=False)
        route("empty")

        page = admin_client.get(LIST).content.decode()

        for words in (
            "gpt-* → one/big (75 %) or two/the same name (25 %), else off/m (disabled)",
            "In force",
            "All its upstreams are disabled",
            "Without choices",
            "Disabled",
            "empty → nothing",
        ):
            assert words in page

    def test_empty_list_says_what_routes_are_for(self, admin_client: Client) -> None:
        page = admin_client.get(LIST).content.decode()
        assert "No routes" in page
        assert "Where does this name lead?" in page

    def test_is_in_the_sidebar(self, admin_client: Client) -> None:
        groups = {one.get("title"): one["items"] for one in admin_client.get(LIST).context["sidebar_navigation"]}
        assert LIST in [item["link"] for item in groups["Serving"]]


def where(client: Client, model: str, agent: str = "", **headers: str) -> Any:
    return client.get(WHERE, {"model": model, "agent": agent}, headers=headers)


class TestWhere:
    @pytest.fixture(autouse=True)
    def _upstreams(self) -> None:
        one, two = put("openai", "gpt-4o"), put("ollama", "qwen3", default_model="qwen3")
        two.make_default()
        route("gpt-5*", (one, "", 1, 1), (two, "qwen3", 2, 1))
        route("fast", (one, "gpt-4o", 1, 3), (two, "qwen3", 1, 1))

    @pytest.mark.parametrize(
        ("model", "because", "candidates"),
        [
            ("fast", "The route fast is for exactly this name.", ["openai/gpt-4o", "ollama/qwen3"]),
            ("gpt-4o", "openai lists a model of this name.", ["openai/gpt-4o"]),
            ("openai/new", "The name says its upstream, openai, outright.", ["openai/new"]),
            ("gpt-5-mini", "The route gpt-5* fits this name.", ["openai/gpt-5-mini", "ollama/qwen3"]),
            (
                "claude",
                "Nothing is known of claude. The default model of the default upstream answers in its place.",
                ["ollama/qwen3"],
            ),
            (
                "",
                "No model is named. The default model of the default upstream answers in its place.",
                ["ollama/qwen3"],
            ),
        ],
    )
    def test_name_leads_where_the_rules_say(
        self, admin_client: Client, model: str, because: str, candidates: list[str]
    ) -> None:
        context = where(admin_client, model).context

        assert context["lead"].because == because
        found = [f"{row.candidate.target.slug}/{row.candidate.model}" for row in context["rows"]]
        assert found == candidates

    def test_settings_of_the_agent_come_first(self, admin_client: Client) -> None:
        drop_in = DropInFactory.create(agent_id="labs/planner")
        AgentSettings.objects.create(drop_in=drop_in, model="gpt-5-nano")

        answer = where(admin_client, "qwen3", "labs/planner").context["lead"]

        assert answer.because == (
            "The settings of the agent ask for gpt-5-nano instead. The route gpt-5* fits this name."
        )
        assert [one.model for one in answer.candidates] == ["gpt-5-nano", "qwen3"]

    def test_declared_agent_and_its_namespace_count(self, admin_client: Client) -> None:
        openai = Upstream.objects.get(slug="openai")
        DeclaredAgent.objects.create(namespace="labs", name="desk")
        Namespace.objects.create(name="labs", upstream=openai, model="gpt-4o")

        answer = where(admin_client, "claude", "labs/desk")

        assert answer.context["lead"].because == (
            "Nothing is known of claude. The namespace of the agent has a default of its own."
        )
        assert [one.target.slug for one in answer.context["lead"].candidates] == ["openai"]
        assert "The catalog has no agent" not in answer.content.decode()

    def test_unknown_agent_is_told(self, admin_client: Client) -> None:
        page = where(admin_client, "qwen3", "labs/<b>").content.decode()
        assert "The catalog has no agent labs/&lt;b&gt;" in page

    def test_nothing_to_ask_is_told_as_a_chat_would_be(self, admin_client: Client) -> None:
        Upstream.objects.all().delete()

        answer = where(admin_client, "gpt-4o").context["lead"]

        assert (answer.candidates, answer.problem.startswith("No upstream is enabled.")) == ((), True)

    def test_part_of_the_page_is_answered_to_the_page(self, admin_client: Client) -> None:
        whole, part = where(admin_client, "fast"), where(admin_client, "fast", hx_request="true")

        assert ["<html" in one.content.decode() for one in (whole, part)] == [True, False]
        assert "first in 75 % of the draws" in part.content.decode()

    def test_needs_the_permissions(self, django_user_model: Any) -> None:
        client = Client()
        assert where(client, "fast").status_code == 302
        client.force_login(django_user_model.objects.create_user("reader", is_staff=True))
        assert where(client, "fast").status_code == 403

    @pytest.mark.parametrize(
        "prefer",
        [
            Preference(),
            Preference(instead=ModelRef("openai", "x")),
            Preference(instead=ModelRef("openai", "")),
            Preference(instead=ModelRef("gone", "x")),
            Preference(instead=ModelRef("", "fast")),
            Preference(instead=ModelRef("", "unknown")),
            Preference(default=ModelRef("openai", "x")),
            Preference(default=ModelRef("", "gpt-5-pro")),
            Preference(default=ModelRef("gone", "x")),
        ],
    )
    @pytest.mark.parametrize("name", ["", "fast", "gpt-4o", "ollama/x", "gone/x", "gpt-5", "claude"])
    def test_words_agree_with_the_road(self, name: str, prefer: Preference) -> None:
        live_config.refresh()
        table = upstreams.current()

        told = lead(table, name, prefer)

        assert told.candidates == table.route(name or None, prefer=prefer).candidates
        is_default = told.because.endswith("The default model of the default upstream answers in its place.")
        assert is_default == ([(one.target.slug, one.model) for one in told.candidates] == [("ollama", "qwen3")])
