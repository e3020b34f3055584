"""The pages of declared agents, namespaces, and the settings of agents in folders."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from apps.catalog.models import AgentSettings, DeclaredAgent, Namespace
from apps.tools.models import Kind, Tool
from tests.console.test_agents import settings_form
from tests.factories import DeclaredAgentFactory, DropInFactory, UpstreamFactory
from tests.harness import DemoServer, FaultyServer

LIST = "/admin/catalog/declaredagent/"
ADD = f"{LIST}add/"
NAMESPACES = "/admin/catalog/namespace/"
CONFIRM = {"_form_submitted": "on"}

pytestmark = pytest.mark.django_db


def form(**fields: Any) -> dict[str, Any]:
    return {
        "namespace": "default", "name": "desk", "title": "Help desk", "stage": "draft", "description": "",
        "instructions": "Answer.", "upstream": "", "model": "", "parameters": "", "tool_globs": "",
        "tool_choice": "auto", "parallel_tool_calls": "unknown", "response_format": "", "max_turns": "",
        "run_timeout": "", "on_disconnect": "cancel", "listed": "on", "greeting": "", "icon": "", "tags": "",
        "aliases": "", **fields,
    }  # fmt: skip


def add(client: Client, **fields: Any) -> Any:
    return client.post(ADD, form(**fields), follow=True)


def page_of(agent: DeclaredAgent) -> str:
    return f"{LIST}{agent.pk}/change/"


def errors(response: Any) -> dict[str, list[str]]:
    return {name: list(found) for name, found in response.context["adminform"].form.errors.items()}


def told(response: Any) -> list[tuple[str, str]]:
    return [(one.level_tag, one.message) for one in response.context["messages"]]


def tool(name: str) -> Tool:
    made: Tool = Tool.objects.create(name=name, kind=Kind.HTTP, url="https://example.com")
    return made


class TestList:
    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        upstream = UpstreamFactory.create(serves=["demo"])
        for number in range(rows):
            DeclaredAgentFactory.create(upstream=upstream, tools=[f"gone{number}"])
        admin_client.get(LIST)  # the configuration is read
        assert count_queries(lambda: admin_client.get(LIST)) == 8

    def test_shows_stage_model_tools_and_problem(self, admin_client: Client) -> None:
        tool("search")
        upstream = UpstreamFactory.create(slug="llm", serves=["demo"])
        DeclaredAgentFactory.create(name="a", stage="draft", upstream=upstream, tools=["search", "serach"])
        DeclaredAgentFactory.create(name="b", stage="disabled", model="demo")
        DeclaredAgentFactory.create(name="c")
        page = admin_client.get(LIST).content.decode()
        for words in (
            "Draft", "Disabled", "Live", "llm: its default", "the default",
            "The gateway has no tool &#x27;serach&#x27; (near: search)",
        ):  # fmt: skip
            assert words in page

    def test_empty_list_says_how_to_begin(self, admin_client: Client) -> None:
        page = admin_client.get(LIST).content.decode()
        assert "A declared agent needs no code" in page
        assert "Declared agents" in page  # in the sidebar

    @pytest.mark.parametrize(
        ("asked", "names"),
        [
            ({"tools": "yes"}, ["b"]),
            ({"tools": "no"}, ["a"]),
            ({"stage": "live"}, ["a", "b"]),
            ({"q": "needle"}, ["b"]),
        ],
    )
    def test_filters_and_search(self, admin_client: Client, asked: dict[str, str], names: list[str]) -> None:
        DeclaredAgentFactory.create(name="a")
        DeclaredAgentFactory.create(name="b", tools=["x"], instructions="A needle.")
        assert sorted(row.name for row in admin_client.get(LIST, asked).context["cl"].result_list) == names

    def test_stages_are_set_of_several(self, admin_client: Client) -> None:
        made = [DeclaredAgentFactory.create(stage="draft") for _ in range(2)]
        chosen = {"_selected_action": [one.pk for one in made]}
        page = admin_client.post(LIST, {"action": "publish_all", **chosen}, follow=True)
        assert told(page)[0] == ("success", "2 agents published: live within a second.")
        assert [words for level, words in told(page) if level == "warning"] == [
            f"{one.agent_id}: Nothing can answer for it: No upstream is enabled. Add an LLM server in the admin under "
            "Upstreams, or enable the demo."
            for one in made
        ]
        admin_client.post(LIST, {"action": "disable_all", **chosen})
        assert set(DeclaredAgent.objects.values_list("stage", flat=True)) == {"disabled"}
        assert made[0].versions.count() == 3


class TestAdding:
    def test_saves_all_that_was_entered(self, admin_client: Client) -> None:
        tool("search")
        upstream = UpstreamFactory.create(slug="llm", kind="demo", serves=["demo"])
        add(
            admin_client, upstream=upstream.pk, model="demo", parameters='{"temperature": 0.2}',
            chosen_tools=["search"], tool_globs="github_*\nother", tool_choice="search", parallel_tool_calls="true",
            response_format='{"type": "json_object"}', max_turns="4", run_timeout="60", on_disconnect="drain",
            greeting="Hello", icon="🖨️", tags="support\ninternal", aliases="printers",
        )  # fmt: skip
        row = DeclaredAgent.objects.get()
        assert row.values() == {
            "upstream": "llm", "model": "demo", "parameters": {"temperature": 0.2}, "max_turns": 4,
            "run_timeout": 60.0, "on_disconnect": "drain", "listed": True, "namespace": "default", "name": "desk",
            "title": "Help desk", "description": "", "instructions": "Answer.",
            "tools": ["search", "github_*", "other"], "tool_choice": "search", "parallel_tool_calls": True,
            "response_format": {"type": "json_object"}, "greeting": "Hello", "icon": "🖨️",
            "tags": ["support", "internal"], "aliases": ["printers"], "stage": "draft",
        }  # fmt: skip
        assert row.versions.get().author == "admin"

    def test_form_shows_again_what_is_saved(self, admin_client: Client) -> None:
        tool("search")
        values = {"tools": ["search", "github_*"], "parameters": {"temperature": 0.5}, "tags": ["a", "b"]}
        row = DeclaredAgentFactory.create(**values)
        shown = admin_client.get(page_of(row)).context["adminform"].form
        data = {name: field.value() for name in shown.fields if (field := shown[name]).value() is not None}
        posted = {**data, "tool_globs": "github_*", "tags": "a\nb", "aliases": "", "parameters": '{"temperature": 0.5}'}
        posted |= {"parallel_tool_calls": "unknown", "response_format": ""}
        assert told(admin_client.post(page_of(row), posted, follow=True))[0][0] == "success"
        row.refresh_from_db()
        assert {name: getattr(row, name) for name in values} == values
        assert row.versions.count() == 1  # nothing has changed

    @pytest.mark.parametrize(
        ("fields", "field", "sentence"),
        [
            ({"parameters": "{"}, "parameters", 'This is no JSON. An example: {"temperature": 0.2}'),
            (
                {"parameters": '{"temprature": 1}'},
                "parameters",
                (
                    "'temprature' is no parameter of OpenAI's. Did you mean 'temperature'? What only your server knows "
                    "goes into extra_body."
                ),
            ),
            ({"response_format": "["}, "response_format", 'This is no JSON. An example: {"type": "json_object"}'),
            (
                {"response_format": '{"type": "xml"}'},
                "response_format",
                "Its “type” is text, json_object or json_schema, not 'xml'.",
            ),
            ({"name": "No Good"}, "name", "Lower-case letters, digits, dots, dashes; no spaces."),
            (
                {"tool_globs": "a b"},
                "tool_globs",
                "“a b” is no tool's name, and no glob over names: letters, digits, _, - and stars.",
            ),
            ({"tool_choice": "required"}, "tool_choice", "“required” needs tools, and the agent has none."),
            ({"aliases": "weather"}, "aliases", "“weather” is taken: it is an alias of labs/other."),
            ({"name": "taken"}, "name", "default/taken is taken: it is the id of an agent in a folder."),
            ({"namespace": "labs", "name": "other"}, "__all__", "There is a declared agent of this id already."),
            ({"max_turns": "0"}, "max_turns", "Ensure this value is greater than or equal to 1."),
            ({"run_timeout": "86400.5"}, "run_timeout", "A run has 86,400 seconds at most, a day."),
        ],
    )
    def test_what_is_wrong_is_said_at_its_field(
        self, admin_client: Client, fields: dict[str, Any], field: str, sentence: str
    ) -> None:
        DeclaredAgentFactory.create(namespace="labs", name="other", aliases=["weather"])
        DropInFactory.create(agent_id="default/taken")
        assert errors(add(admin_client, **fields)) == {field: [sentence]}
        assert DeclaredAgent.objects.count() == 1

    def test_model_of_the_form_is_suggested(self, admin_client: Client) -> None:
        UpstreamFactory.create(serves=["qwen3", "llama3"])
        page = admin_client.get(ADD).content.decode()
        assert '<option value="llama3"></option><option value="qwen3"></option>' in page
        assert "<code>{{user_email}}</code> the person&#x27;s e-mail address" in page

    def test_copy_begins_with_all_but_name_aliases_and_stage(self, admin_client: Client) -> None:
        tool("search")
        row = DeclaredAgentFactory.create(name="desk", tools=["search", "x_*"], aliases=["a"], parameters={"seed": 1})
        response = admin_client.get(f"{LIST}{row.pk}/duplicate/", follow=True)
        shown = response.context["adminform"].form
        assert {name: shown[name].value() for name in ("name", "chosen_tools", "tool_globs", "aliases", "stage")} == {
            "name": "desk-copy", "chosen_tools": ["search"], "tool_globs": "x_*", "aliases": None, "stage": "draft",
        }  # fmt: skip
        assert json.loads(shown["parameters"].value()) == {"seed": 1}


@pytest.mark.django_db(transaction=True)  # servers are asked after the commit
class TestAskingTheServer:
    """With real ones."""

    @pytest.fixture
    def saved(self, admin_client: Client) -> Callable[..., list[Any]]:
        def save(**fields: Any) -> list[Any]:
            found = told(admin_client.post(ADD, form(**fields), follow=True))
            return [one for one in found if "was added successfully" not in one[1]]

        return save

    def test_list_that_was_not_read_is_read_now(self, saved: Callable[..., list[Any]], demo: DemoServer) -> None:
        UpstreamFactory.create(slug="llm", base_url=demo.base_url, default_model="")
        tool("search")
        assert saved(model="demo", tool_globs="search") == [
            ("success", "demo of 'llm' answers for default/desk."),
            ("success", "demo takes tools."),
        ]

    def test_unknown_model_and_tools_are_told_with_near_names(
        self, saved: Callable[..., list[Any]], faulty: FaultyServer
    ) -> None:
        row = UpstreamFactory.create(slug="llm", base_url=faulty.base_url)
        tool("search")
        assert saved(upstream=row.pk, model="reasonin", tool_globs="serach") == [
            (
                "warning",
                (
                    "'llm' does not list the model reasonin. Near names: reasoning, reasoning-content. Choose a model "
                    "that it lists, or load the model there and read the list again in the admin under Upstreams."
                ),
            ),
            (
                "warning",
                (
                    "The gateway has no tool 'serach' (near: search): the agent goes on without it. Add or enable what "
                    "is missing in the admin under Tools, or take it off the agent's list."
                ),
            ),
        ]

    def test_server_that_refuses_tools_is_a_warning(
        self, saved: Callable[..., list[Any]], faulty: FaultyServer
    ) -> None:
        row = UpstreamFactory.create(slug="llm", base_url=faulty.base_url)
        tool("search")
        (good, (level, words)) = saved(upstream=row.pk, model="status-400", tool_globs="search")
        assert good == ("success", "status-400 of 'llm' answers for default/desk.")
        assert (level, words.partition(":")[0]) == ("warning", "Whether status-400 takes tools is not known")

    def test_dead_server_is_a_warning(self, saved: Callable[..., list[Any]]) -> None:
        row = UpstreamFactory.create(slug="llm", base_url="http://127.0.0.1:9/v1")
        ((level, words),) = saved(upstream=row.pk, model="m")
        assert level == "warning"
        assert words.startswith("Whether 'llm' has its model is not known: Nothing listens at http://127.0.0.1:9/v1")


class TestStages:
    def test_publish_asks_for_a_word_more_where_it_cannot_run(self, admin_client: Client) -> None:
        row = DeclaredAgentFactory.create(stage="draft")
        url = f"{LIST}{row.pk}/publish/"

        page = admin_client.post(url, CONFIRM)
        assert "Publish it all the same" in page.content.decode()
        assert "Nothing can answer for it" in page.content.decode()
        row.refresh_from_db()
        assert row.stage == "draft"

        done = admin_client.post(url, {**CONFIRM, "anyway": "on"})
        assert done["HX-Redirect"] == page_of(row)
        row.refresh_from_db()
        assert row.stage == "live"

    @pytest.mark.parametrize(
        ("button", "before", "after"),
        [("publish", "draft", "live"), ("to_draft", "live", "draft"), ("disable", "live", "disabled")],
    )
    def test_button_changes_the_stage_once(self, admin_client: Client, button: str, before: str, after: str) -> None:
        UpstreamFactory.create(kind="demo", serves=["demo"])
        row = DeclaredAgentFactory.create(stage=before)
        url = f"{LIST}{row.pk}/{button}/"
        assert admin_client.post(url, CONFIRM)["HX-Redirect"] == page_of(row)
        row.refresh_from_db()
        assert row.stage == after
        assert admin_client.post(url, CONFIRM).status_code == 403  # it is already
        assert [one.values["stage"] for one in row.versions.all()] == [after, before]


class TestVersions:
    def test_page_shows_who_changed_what_and_leads_back(self, admin_client: Client) -> None:
        UpstreamFactory.create(kind="demo", serves=["demo"])
        row = DeclaredAgentFactory.create(name="desk", instructions="One.\nTwo.", model="first")
        admin_client.post(page_of(row), form(instructions="One.\nThree.", model="<second>", stage="live"))
        url = f"{LIST}{row.pk}/versions/"

        page = admin_client.get(url).content.decode()
        for words in ("Version 2", "by admin", "-Two.", "+Three.", "first", "&lt;second&gt;", "Return to version 1"):
            assert words in page

        page = admin_client.post(f"{LIST}{row.pk}/return/", {"number": "1"}, follow=True)
        assert told(page)[0] == ("success", "It is what it was in version 1, in all workers within a second.")
        row.refresh_from_db()
        assert (row.instructions, row.model, row.versions.count()) == ("One.\nTwo.", "first", 3)

    def test_unknown_version_is_not_found(self, admin_client: Client) -> None:
        row = DeclaredAgentFactory.create()
        for number in ("9", "", "x", "1" * 30):
            assert admin_client.post(f"{LIST}{row.pk}/return/", {"number": number}).status_code == 404

    def test_who_may_only_look_sees_no_buttons(self) -> None:
        row = DeclaredAgentFactory.create()
        reader = User.objects.create_user("reader", is_staff=True)
        reader.user_permissions.add(Permission.objects.get(codename="view_declaredagent"))
        client = Client()
        client.force_login(reader)
        assert client.get(page_of(row)).status_code == 200
        assert 'id="try"' not in client.get(page_of(row)).content.decode()
        assert client.get(f"{LIST}{row.pk}/versions/").status_code == 200
        assert client.post(f"{LIST}{row.pk}/return/", {"number": "1"}).status_code == 403
        for button in ("publish", "to_draft", "disable"):
            assert client.post(f"{LIST}{row.pk}/{button}/", CONFIRM).status_code == 403


class TestNamespaces:
    @pytest.mark.parametrize("rows", [1, 3])
    def test_list_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        upstream = UpstreamFactory.create()
        for number in range(rows):
            Namespace(name=f"n{number}", upstream=upstream).save()
            DropInFactory.create(agent_id=f"n{number}/a")
        assert count_queries(lambda: admin_client.get(NAMESPACES)) == 7

    def test_page_shows_its_agents(self, admin_client: Client) -> None:
        row = Namespace(name="labs")
        row.save()
        drop_in = DropInFactory.create(agent_id="labs/planner")
        DropInFactory.create(agent_id="default/other")
        declared = DeclaredAgentFactory.create(namespace="labs", name="desk")
        page = admin_client.get(f"{NAMESPACES}{row.pk}/change/").content.decode()
        assert f"/admin/catalog/dropin/{drop_in.pk}/change/" in page
        assert page_of(declared) in page
        assert "default/other" not in page

    def test_default_that_nothing_has_is_a_warning(self, admin_client: Client) -> None:
        UpstreamFactory.create(slug="llm", serves=["demo"])
        given = {"name": "labs", "description": "", "upstream": "", "model": "gpt-nobody-has"}
        assert told(admin_client.post(f"{NAMESPACES}add/", given, follow=True))[0] == (
            "warning",
            (
                "An operator chose the model gpt-nobody-has, which no enabled upstream has; demo of 'llm' answers "
                "instead. Choose another model in the admin, or add or enable the upstream that has it."
            ),
        )


class TestSettingsOfDropIns:
    def test_how_it_is_run_is_saved(self, admin_client: Client) -> None:
        upstream, row = UpstreamFactory.create(), DropInFactory.create()
        given = {
            "upstream": upstream.pk, "model": "gpt", "parameters": '{"temperature": 0.3}', "max_turns": "3",
            "run_timeout": "20", "on_disconnect": "drain",
        }  # fmt: skip
        posted = settings_form(row) | {f"settings-0-{name}": value for name, value in given.items()}
        admin_client.post(f"/admin/catalog/dropin/{row.pk}/change/", posted)
        saved = AgentSettings.objects.get(drop_in=row)
        assert (saved.upstream, saved.model, saved.parameters) == (upstream, "gpt", {"temperature": 0.3})
        assert (saved.max_turns, saved.run_timeout, saved.on_disconnect, saved.listed) == (3, 20.0, "drain", False)

    def test_wrong_parameter_is_named(self, admin_client: Client) -> None:
        row = DropInFactory.create()
        posted = settings_form(row) | {"settings-0-parameters": '{"heat": 1}', "settings-0-on_disconnect": "cancel"}
        response = admin_client.post(f"/admin/catalog/dropin/{row.pk}/change/", posted)
        (inline,) = response.context["inline_admin_formsets"]
        assert inline.formset.errors == [
            {"parameters": ["'heat' is no parameter of OpenAI's. What only your server knows goes into extra_body."]}
        ]

    def test_run_has_a_day_at_most(self, admin_client: Client) -> None:
        row = DropInFactory.create()
        posted = settings_form(row) | {"settings-0-run_timeout": "86401", "settings-0-on_disconnect": "cancel"}
        response = admin_client.post(f"/admin/catalog/dropin/{row.pk}/change/", posted)
        (inline,) = response.context["inline_admin_formsets"]
        assert inline.formset.errors == [{"run_timeout": ["A run has 86,400 seconds at most, a day."]}]
