"""Tools in the console: forms by kind, secrets that are only written, test runs, imports."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.tools.models import Kind, McpServer, Tool, Transport
from tests.tools.test_openapi import PETS

LIST = "/admin/tools/tool/"
ADD = f"{LIST}add/"
IMPORT = f"{LIST}import_openapi/"
CONFIRM = {"_form_submitted": "on"}
DAYS = "apps.tools.examples.days_between"

pytestmark = pytest.mark.django_db


def form(**fields: Any) -> dict[str, Any]:
    return {
        "name": "weather", "kind": "http", "description": "", "enabled": "on", "method": "GET",
        "url": "https://api.example.com/{city}", "headers": "", "secret_headers": "", "body": "", "parameters": "",
        "extract": "", "function": "", "retries": "2", "cache_seconds": "0", "max_calls_per_run": "", "timeout": "30",
        "max_concurrency": "16", "max_output_bytes": "65536", **fields,
    }  # fmt: skip


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def told(response: Any) -> list[str]:
    return [str(one) for one in get_messages(response.wsgi_request)]


def change(client: Client, tool: Tool, **fields: Any) -> Any:
    return client.post(f"{LIST}{tool.pk}/change/", form(name=tool.name, **fields), follow=True)


@pytest.fixture
def clerk() -> Client:
    """Staff who may change tools and is no superuser."""
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="tools", codename__endswith="_tool"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def http_url() -> Iterator[str]:
    """Of a server on loopback that says what it was asked, or what the document is."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            said = PETS if self.path == "/pets.yaml" else json.dumps({"path": self.path, "key": self.headers["X-Key"]})
            self.wfile.write(said.encode())

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class TestAdding:
    def test_http_tool_is_stored_with_its_schema(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(body='{"text": "{text}"}', method="POST", headers='{"X-L": "de"}'))

        tool = Tool.objects.get()
        assert (tool.name, tool.body, tool.headers) == ("weather", {"text": "{text}"}, {"X-L": "de"})
        assert list(tool.parameters["properties"]) == ["city", "text"]

    def test_function_is_stored_with_its_schema(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(kind="local", url="", function=DAYS))

        tool = Tool.objects.get()
        assert (tool.kind, tool.parameters["required"]) == (Kind.LOCAL, ["first", "second"])

    @pytest.mark.parametrize(
        ("fields", "field", "beginning"),
        [
            ({"url": "https://{host}/"}, "url", "A URL template looks like"),
            ({"parameters": "{"}, "parameters", "Enter a valid JSON."),
            ({"parameters": '{"properties": 3}'}, "parameters", "This is no JSON schema, at $.properties: 3"),
            ({"kind": "local", "function": "os.system"}, "function", "The module os is not among those"),
            ({"kind": "mcp"}, "kind", "Select a valid choice."),
            ({"secret_headers": "no colon"}, "secret_headers", "Write one header a line, as name and value"),
            ({"secret_headers": "a b: c"}, "secret_headers", "“a b” is no name of a header"),
            ({"headers": '{"Authorization": "x"}'}, "headers", "Authorization belongs to the secret headers"),
        ],
    )
    def test_what_is_wrong_is_said_beside_its_field(
        self, admin_client: Client, fields: dict[str, str], field: str, beginning: str
    ) -> None:
        response = admin_client.post(ADD, form(**fields))

        assert {name: text[0][: len(beginning)] for name, text in errors(response).items()} == {field: beginning}

    def test_what_was_typed_stays_but_secrets_do_not(self, admin_client: Client) -> None:
        page = admin_client.post(ADD, form(name="a b", body='{"x":', secret_headers="X-Key: hidden-value"))

        assert "{&quot;x&quot;:" in page.content.decode()
        assert "hidden-value" not in page.content.decode()


class TestSecrets:
    @pytest.fixture
    def tool(self, admin_client: Client) -> Tool:
        admin_client.post(ADD, form(secret_headers="Authorization: Bearer hidden-value\nX-Other: hidden-too"))
        return Tool.objects.get()

    def test_are_stored_encrypted_and_shown_by_name_alone(self, admin_client: Client, tool: Tool) -> None:
        page = admin_client.get(f"{LIST}{tool.pk}/change/").content.decode()

        assert tool.secret_headers == {"Authorization": "Bearer hidden-value", "X-Other": "hidden-too"}
        assert "Stored, encrypted: Authorization, X-Other. Leave this empty to keep it." in page
        assert [one for one in ("hidden-value", "hidden-too") if one in page] == []
        assert "hidden-value" not in admin_client.get(f"{LIST}{tool.pk}/history/").content.decode()

    @pytest.mark.parametrize(
        ("fields", "stored"),
        [
            ({}, {"Authorization": "Bearer hidden-value", "X-Other": "hidden-too"}),
            ({"secret_headers": "X-New: 1"}, {"X-New": "1"}),
            ({"clear_secret_headers": "on"}, {}),
        ],
    )
    def test_are_kept_replaced_or_removed(
        self, admin_client: Client, tool: Tool, fields: dict[str, str], stored: dict[str, str]
    ) -> None:
        change(admin_client, tool, **fields)

        tool.refresh_from_db()
        assert tool.secret_headers == stored

    def test_cannot_be_replaced_and_removed(self, admin_client: Client, tool: Tool) -> None:
        response = change(admin_client, tool, secret_headers="X: 1", clear_secret_headers="on")

        assert list(errors(response)) == ["secret_headers"]

    def test_that_cannot_be_read_are_said_to_be(self, admin_client: Client, tool: Tool, settings: Any) -> None:
        Tool.objects.update(encrypted_headers="another key's")

        for page in (f"{LIST}{tool.pk}/change/", f"{LIST}{tool.pk}/test_run/"):
            assert "A stored secret cannot be read" in admin_client.get(page).content.decode()


class TestPages:
    def test_empty_list_says_how_to_begin(self, admin_client: Client) -> None:
        page = admin_client.get(LIST).content.decode()

        assert "A tool is a Python function, an HTTP request, or comes from an MCP server" in page

    def test_list_asks_as_much_for_one_tool_as_for_three(self, admin_client: Client) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as asked:
                admin_client.get(LIST)
            return len(asked)

        server = McpServer.objects.create(slug="s", url="http://a.b")
        Tool.objects.create(name="a", kind=Kind.MCP, server=server, remote_name="a")
        one = queries()
        for name in "bc":
            Tool.objects.create(name=name, kind=Kind.MCP, server=server, remote_name=name)

        assert queries() == one

    def test_state_and_remedy_stand_on_the_page(self, admin_client: Client) -> None:
        tool = Tool.objects.create(name="odd", kind=Kind.LOCAL, function="os.system")

        page = admin_client.get(f"{LIST}{tool.pk}/change/").content.decode()
        assert "Cannot be imported" in page
        assert "The module os is not among those whose functions may be tools" in page
        assert "Cannot be imported" in admin_client.get(LIST).content.decode()

    @pytest.mark.parametrize(
        ("kind", "shown", "hidden"),
        [
            (Kind.LOCAL, ["function"], ["url", "method", "secret_headers", "extract"]),
            (Kind.HTTP, ["url", "method", "secret_headers", "body", "parameters"], ["function"]),
            (Kind.MCP, ["description", "needs_approval"], ["function", "url", "parameters"]),
        ],
    )
    def test_page_has_the_fields_of_its_kind(
        self, admin_client: Client, kind: Kind, shown: list[str], hidden: list[str]
    ) -> None:
        server = McpServer.objects.create(slug="s", url="http://a.b") if kind == Kind.MCP else None
        tool = Tool.objects.create(
            name="x", kind=kind, function=DAYS, url="https://a.b", server=server, remote_name="x"
        )

        page = admin_client.get(f"{LIST}{tool.pk}/change/").content.decode()
        assert [name for name in shown if f'name="{name}"' not in page] == []
        assert [name for name in hidden if f'name="{name}"' in page] == []

    def test_tool_of_a_server_can_be_told_to_need_approval(self, admin_client: Client) -> None:
        server = McpServer.objects.create(slug="s", url="http://a.b")
        tool = Tool.objects.create(name="x", kind=Kind.MCP, server=server, remote_name="x", parameters={"title": "x"})

        change(admin_client, tool, needs_approval="on", description="Mine.")

        tool.refresh_from_db()
        assert (tool.needs_approval, tool.description, tool.kind) == (True, "Mine.", Kind.MCP)
        assert tool.parameters == {"title": "x"}

    def test_tools_are_switched_off_together(self, admin_client: Client) -> None:
        for name in "ab":
            Tool.objects.create(name=name, url="https://a.b", enabled=name == "a")
        rows = [tool.pk for tool in Tool.objects.all()]

        response = admin_client.post(LIST, {"action": "disable", "_selected_action": rows}, follow=True)

        assert list(Tool.objects.values_list("enabled", flat=True)) == [False, False]
        assert [str(one) for one in response.context["messages"]] == ["1 tool switched off."]

    def test_signature_is_read_again(self, admin_client: Client) -> None:
        tool = Tool.objects.create(name="days", kind=Kind.LOCAL, function=DAYS, parameters={"type": "object"})

        answer = admin_client.post(f"{LIST}{tool.pk}/read_signature/", CONFIRM)

        tool.refresh_from_db()
        assert (tool.parameters["required"], told(answer)) == (["first", "second"], ["Its arguments have changed."])


class TestTestRun:
    @pytest.fixture
    def days(self) -> Tool:
        tool = Tool(name="days", kind=Kind.LOCAL, function=DAYS)
        tool.full_clean()
        tool.save()
        return tool

    @pytest.mark.parametrize(
        ("given", "arguments", "text"),
        [
            (
                {"argument_0": "2026-01-01", "argument_1": "2026-01-31"},
                '{"first":"2026-01-01","second":"2026-01-31"}',
                "30",
            ),
            (
                {"argument_0": "x", "json": '{"first": "2026-01-01", "second": "2026-01-02"}'},
                '{"first": "2026-01-01", "second": "2026-01-02"}',
                "1",
            ),
            ({"argument_0": "2026-01-01"}, '{"first":"2026-01-01"}', None),
            ({"json": "{"}, "{", None),
        ],
    )
    def test_shows_what_the_model_would_be_given(
        self, clerk: Client, days: Tool, given: dict[str, str], arguments: str, text: str | None
    ) -> None:
        page = clerk.post(f"{LIST}{days.pk}/test_run/", given)

        tried = page.context["tried"]
        assert (tried.arguments, tried.output.is_error) == (arguments, text is None)
        assert text is None or tried.output.text == text
        assert ("Failed after" if text is None else "Answered after") in page.content.decode()

    def test_nothing_is_called_before_it_is_asked_for(self, clerk: Client, days: Tool) -> None:
        page = clerk.get(f"{LIST}{days.pk}/test_run/")

        assert page.context["tried"] is None
        assert [field.label for field in page.context["form"]] == ["first *", "second *", "Or all of them as JSON"]

    def test_http_tool_is_really_called(self, clerk: Client, http_url: str) -> None:
        tool = Tool(name="x", url=f"{http_url}/{{a}}", allow_private_hosts=True)
        tool.secret_headers = {"X-Key": "very-secret"}
        tool.full_clean()
        tool.save()

        page = clerk.post(f"{LIST}{tool.pk}/test_run/", {"argument_0": "b c"})

        assert json.loads(page.context["tried"].output.text) == {"path": "/b%20c", "key": "•••"}
        assert "very-secret" not in page.content.decode()

    def test_arguments_of_other_types_are_json(self, clerk: Client) -> None:
        schema = {
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "flag": {"type": "boolean"},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "level": {"enum": [1, 2]},
                "list": {"type": "array"},
                "free": {},
            },
        }
        tool = Tool.objects.create(name="x", url="http://127.0.0.1:9/", parameters=schema)
        given = {"n": "3", "flag": "true", "unit": "f", "level": "2", "list": "[1]", "free": "text"}

        fields = {f"argument_{number}": value for number, value in enumerate(given.values())}
        page = clerk.post(f"{LIST}{tool.pk}/test_run/", fields)
        wrong = clerk.post(f"{LIST}{tool.pk}/test_run/", {"argument_0": "three"})

        sent = json.loads(page.context["tried"].arguments)
        assert sent == {"n": 3, "flag": True, "unit": "f", "level": 2, "list": [1], "free": "text"}
        assert (wrong.context["tried"], list(wrong.context["form"].errors)) == (None, ["argument_0"])

    def test_only_who_may_change_tools_may_call_them(self, days: Tool) -> None:
        client = Client()
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename="view_tool"))
        client.force_login(user)

        assert client.get(f"{LIST}{days.pk}/change/").status_code == 200
        assert client.post(f"{LIST}{days.pk}/test_run/", {}).status_code == 403

    def test_process_is_started_for_superusers_alone(self, clerk: Client) -> None:
        server = McpServer.objects.create(slug="s", transport=Transport.STDIO, command=["true"])
        tool = Tool.objects.create(name="x", kind=Kind.MCP, server=server, remote_name="x")

        page = clerk.post(f"{LIST}{tool.pk}/test_run/", {"json": "{}"})

        assert (page.context["tried"], page.context["refused"]) == (
            None,
            "This tool's server is a process of this machine, which only superusers may start.",
        )


class TestImporting:
    def listed(self, page: Any) -> list[str]:
        return [one["operation"].name for one in page.context["operations"]]

    @pytest.mark.parametrize(
        "fields",
        [
            lambda: {"text": PETS},
            lambda: {"file": SimpleUploadedFile("pets.yaml", PETS.encode())},
        ],
    )
    def test_document_is_listed(self, clerk: Client, fields: Callable[[], dict[str, Any]]) -> None:
        page = clerk.post(IMPORT, {"name_prefix": "pets_", **fields()})

        assert self.listed(page) == ["pets_listPets", "pets_addPet", "pets_change_pet", "pets_delete__pets_id"]
        assert Tool.objects.count() == 0

    def test_document_is_fetched_where_it_may_be(self, clerk: Client, http_url: str) -> None:
        refused = clerk.post(IMPORT, {"url": f"{http_url}/pets.yaml"})
        page = clerk.post(IMPORT, {"url": f"{http_url}/pets.yaml", "allow_private_hosts": "on"})

        assert refused.context["form"].errors["url"] == [
            "The document could not be read: 127.0.0.1 is no public host, and this tool may ask no other."
        ]
        assert len(self.listed(page)) == 4

    def test_chosen_operations_become_tools(self, clerk: Client) -> None:
        fields = {"text": PETS, "secret_headers": "X-Key: abc", "import": "yes"}

        response = clerk.post(IMPORT, {**fields, "operation": ["listPets", "addPet"]})

        assert (response.status_code, told(response)) == (302, ["2 made: listPets, addPet."])
        assert [(tool.name, tool.secret_headers) for tool in Tool.objects.all()] == [
            ("addPet", {"X-Key": "abc"}),
            ("listPets", {"X-Key": "abc"}),
        ]

    @pytest.mark.parametrize(("existing", "told_of"), [("skip", "skipped"), ("update", "unchanged"), ("", "skipped")])
    def test_existing_tools_stay_unless_it_is_said(self, clerk: Client, existing: str, told_of: str) -> None:
        fields = {"text": PETS, "import": "yes", "operation": ["addPet"]}
        clerk.post(IMPORT, fields)

        response = clerk.post(IMPORT, {**fields, "existing": existing})

        assert told(response)[-1].startswith(f"1 {told_of}: addPet")

    @pytest.mark.parametrize(
        ("fields", "field", "beginning"),
        [
            ({}, "__all__", "Name the URL of the document, choose a file, or paste it."),
            ({"text": "{"}, "__all__", "The document is neither JSON nor YAML"),
            ({"text": PETS, "import": "yes"}, "__all__", "Choose at least one operation."),
            ({"url": "file:///etc/passwd"}, "url", "The URL of a document looks like"),
            ({"url": "http://nowhere.invalid/x"}, "url", "The document could not be read: nowhere.invalid cannot be"),
            ({"text": PETS, "name_prefix": "a b"}, "name_prefix", "Enter a valid value."),
            ({"text": PETS, "base_url": "box"}, "base_url", "A base URL looks like"),
            ({"file": b"\xff\xfe"}, "file", "This is no text in UTF-8."),
        ],
    )
    def test_what_is_wrong_is_said(self, clerk: Client, fields: dict[str, Any], field: str, beginning: str) -> None:
        sent = {
            name: SimpleUploadedFile("x", value) if isinstance(value, bytes) else value
            for name, value in fields.items()
        }

        page = clerk.post(IMPORT, sent)

        assert {name: text[0][: len(beginning)] for name, text in page.context["form"].errors.items()} == {
            field: beginning
        }
        assert Tool.objects.count() == 0

    def test_who_may_not_add_tools_may_not_import(self) -> None:
        client = Client()
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_tool", "change_tool"]))
        client.force_login(user)

        assert client.post(IMPORT, {"text": PETS}).status_code == 403
