"""MCP servers in the console."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from apps.core import live_config
from apps.tools.models import McpServer, Tool, Transport
from tests.console.conftest import count_queries  # noqa: F401  # a fixture
from tests.tools.mcp_parts import BARE, MOODS, Remote

LIST = "/admin/tools/mcpserver/"
ADD = f"{LIST}add/"
CONFIRM = {"_form_submitted": "on"}
COMMAND = f"{sys.executable} {BARE}"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


@pytest.fixture
def staff_client(django_user_model: type[User]) -> Client:
    """May do everything with MCP servers, and is no superuser."""
    user = django_user_model.objects.create_user("ann", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(content_type__app_label="tools"))
    client = Client()
    client.force_login(user)
    return client


def row(slug: str = "box", **fields: Any) -> McpServer:
    made = McpServer(slug=slug, **{"url": "http://127.0.0.1:9/mcp"} | fields)
    made.save()
    return made


def form(**fields: Any) -> dict[str, Any]:
    return {
        "slug": "box", "transport": "http", "url": "http://127.0.0.1:9/mcp", "headers": "{}", "token": "",
        "secret_lines": "", "enabled": "on", "allowed_tools": "", "timeout": "60", "max_concurrency": "8",
        "command_line": "", "environment_lines": "", "client_id": "", "client_secret": "", "token_url": "",
        "issuer": "", "scope": "", "tools-TOTAL_FORMS": "0", "tools-INITIAL_FORMS": "0", **fields,
    }  # fmt: skip


def change(client: Client, server: McpServer, **fields: Any) -> Any:
    return client.post(f"{LIST}{server.pk}/change/", form(**fields), follow=True)


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


class TestAdding:
    def test_reads_the_tools(self, admin_client: Client, django_capture_on_commit_callbacks: Any) -> None:
        with Remote(MOODS, "--http") as remote, django_capture_on_commit_callbacks(execute=True):
            admin_client.post(ADD, form(url=remote.url))
        server = McpServer.objects.get()
        assert (server.state, server.reason) == ("connected", "")
        assert "box_repeat" in server.tools.values_list("name", flat=True)

    def test_unreachable_server_is_stored_with_its_problem(
        self, admin_client: Client, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            admin_client.post(ADD, form())
        assert McpServer.objects.get().reason.startswith("http://127.0.0.1:9/mcp cannot be reached")
        for page in ("/admin/", LIST):
            assert "http://127.0.0.1:9/mcp cannot be reached" in admin_client.get(page).content.decode()

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"url": ""}, "url"),
            ({"url": "ftp://x"}, "url"),
            ({"slug": "Has Space"}, "slug"),
            ({"token": "a b"}, "token"),
            ({"secret_lines": "no header"}, "secret_lines"),
            ({"headers": '{"A": 1}'}, "headers"),
            ({"client_id": "only"}, "client_secret"),
            ({"client_id": "gw", "client_secret": "s"}, "token_url"),
            ({"transport": "stdio"}, "command_line"),
            ({"transport": "stdio", "command_line": '"open'}, "command_line"),
            ({"timeout": "0"}, "timeout"),
        ],
    )
    def test_bad_input_names_its_field(self, admin_client: Client, fields: dict[str, str], field: str) -> None:
        assert field in errors(admin_client.post(ADD, form(**fields)))
        assert not McpServer.objects.exists()


class TestSecrets:
    def test_are_stored_encrypted_and_never_shown(self, admin_client: Client) -> None:
        oauth = {"client_id": "gw", "client_secret": "s3cret-c", "token_url": "http://127.0.0.1:9/token"}
        admin_client.post(ADD, form(token="Bearer s3cret-a", secret_lines="X-Key: s3cret-b\nX-Two: s3cret-d", **oauth))
        server = McpServer.objects.get()
        assert server.secret_headers == {"Authorization": "Bearer s3cret-a", "X-Key": "s3cret-b", "X-Two": "s3cret-d"}
        assert server.oauth == oauth
        page = admin_client.get(f"{LIST}{server.pk}/change/").content.decode()
        assert "s3cret" not in page + server.encrypted_headers + server.encrypted_oauth
        assert "http://127.0.0.1:9/token" in page

    def test_blank_keeps_them(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(token="one", client_id="gw", client_secret="two", issuer="http://127.0.0.1:9"))
        server = McpServer.objects.get()
        change(admin_client, server, timeout="7", client_id="gw", issuer="http://127.0.0.1:9")
        after = McpServer.objects.get()
        assert (after.timeout, after.secret_headers, after.oauth) == (7, server.secret_headers, server.oauth)

    def test_are_removed_when_asked(self, admin_client: Client) -> None:
        admin_client.post(ADD, form(token="one", client_id="gw", client_secret="two", issuer="http://127.0.0.1:9"))
        change(admin_client, McpServer.objects.get(), clear_secrets="on")
        after = McpServer.objects.get()
        assert (after.encrypted_headers, after.encrypted_oauth) == ("", "")

    def test_that_cannot_be_read_are_entered_anew(self, admin_client: Client) -> None:
        """As after a restore without the file `secret_key`."""
        server = row(encrypted_headers="x", encrypted_oauth="x")
        assert admin_client.get(f"{LIST}{server.pk}/change/").status_code == 200
        admin_client.post(f"{LIST}{server.pk}/read_tools/", CONFIRM)
        assert McpServer.objects.get().reason.startswith("A stored secret cannot be read")

        oauth = {"client_id": "gw", "client_secret": "new", "token_url": "http://127.0.0.1:9/token"}
        change(admin_client, server, token="new", **oauth)

        after = McpServer.objects.get()
        assert after.secret_headers == {"Authorization": "Bearer new"}
        assert after.oauth == oauth

    def test_of_a_former_version_that_name_nobody_who_gets_them_are_kept_and_not_sent(
        self, admin_client: Client
    ) -> None:
        former = {"client_id": "gw", "client_secret": "s3cret"}
        server = row(oauth=former)
        admin_client.post(f"{LIST}{server.pk}/read_tools/", CONFIRM)
        after = McpServer.objects.get()
        assert (after.state, after.oauth) == ("down", former)
        assert after.reason == (
            "Its OAuth names neither a token URL nor an issuer, and the server may not choose who gets the client's "
            "secret. Name one of them in the admin under MCP servers."
        )

        assert errors(change(admin_client, server, client_id="gw")) == {
            "token_url": ["Name it, or the issuer: else the MCP server would say who gets the client's secret."]
        }
        change(admin_client, server, client_id="gw", issuer="http://127.0.0.1:9")
        assert McpServer.objects.get().oauth == {**former, "issuer": "http://127.0.0.1:9"}

        row("other", oauth=former)
        change(admin_client, McpServer.objects.get(slug="other"), slug="other", client_id="gw", clear_secrets="on")
        assert McpServer.objects.get(slug="other").oauth == {}


class TestProcesses:
    def test_superuser_adds_one(self, admin_client: Client) -> None:
        fields = {"transport": "stdio", "url": "", "command_line": "python 'a b.py'", "environment_lines": "KEY=a=b"}
        admin_client.post(ADD, form(**fields))
        server = McpServer.objects.get()
        assert (server.command, server.environment) == (["python", "a b.py"], {"KEY": "a=b"})

    def test_superuser_is_held_to_the_settings(self, admin_client: Client, settings: Any) -> None:
        settings.GATEWAY_MCP_STDIO = ["npx *"]
        response = admin_client.post(ADD, form(transport="stdio", command_line="python x.py"))
        assert list(errors(response)) == ["command_line"]

    def test_others_cannot_add_one(self, staff_client: Client) -> None:
        response = staff_client.post(ADD, form(transport="stdio", command_line=COMMAND))
        assert list(errors(response)) == ["transport"]
        assert "command_line" not in response.content.decode()

    def test_others_add_other_ones(self, staff_client: Client) -> None:
        staff_client.post(ADD, form(command_line=COMMAND))
        server = McpServer.objects.get()
        assert (server.transport, server.url) == ("http", "http://127.0.0.1:9/mcp")

    def test_others_see_and_do_not_change_one(self, staff_client: Client) -> None:
        server = row(transport=Transport.STDIO, command=["python", "x.py"])
        assert staff_client.get(f"{LIST}{server.pk}/change/").status_code == 200
        assert change(staff_client, server, command_line=COMMAND).status_code == 403
        for verb in ("read_tools", "connect_anew"):
            assert staff_client.post(f"{LIST}{server.pk}/{verb}/", CONFIRM).status_code == 403
        assert staff_client.post(f"{LIST}{server.pk}/delete/", {"post": "yes"}).status_code == 403
        after = McpServer.objects.get()
        assert (after.command, after.state, after.renewed_at) == (["python", "x.py"], "", None)


class TestButtons:
    def test_tools_are_read(self, admin_client: Client) -> None:
        server = row(transport=Transport.STDIO, url="", command=[sys.executable, str(BARE)])
        admin_client.post(f"{LIST}{server.pk}/read_tools/", CONFIRM)
        assert list(Tool.objects.values_list("name", flat=True)) == [
            "box_babble", "box_crash", "box_environment", "box_linger", "box_pid",
        ]  # fmt: skip
        page = admin_client.get(f"{LIST}{server.pk}/change/").content.decode()
        assert "box_linger" in page
        assert "box: added box_babble, box_crash, box_environment, box_linger, box_pid." in page

    def test_all_workers_are_told_to_connect_anew(self, admin_client: Client) -> None:
        server = row()
        admin_client.post(f"{LIST}{server.pk}/connect_anew/", CONFIRM)
        assert McpServer.objects.get().renewed_at is not None


class TestPages:
    def test_list_asks_as_often_for_three_as_for_one(
        self,
        admin_client: Client,
        count_queries: Callable[[Callable[[], Any]], int],  # noqa: F811
    ) -> None:
        def show() -> Any:
            return admin_client.get(LIST)

        row("one", state="connected")
        show()
        once = count_queries(show)
        for slug in ("two", "three"):
            Tool(name=slug, kind="mcp", server=row(slug, state="down", reason="It is off."), remote_name="t").save()
        assert count_queries(show) == once

    def test_gateway_shows_its_adapters_and_they_lead_back(self, admin_client: Client) -> None:
        parent = row("ms", transport=Transport.GATEWAY)
        child = row("ms-alpha", parent=parent, url="http://127.0.0.1:9/adapters/alpha/mcp")
        assert "ms-alpha" in admin_client.get(f"{LIST}{parent.pk}/change/").content.decode()
        page = admin_client.get(f"{LIST}{child.pk}/change/").content.decode()
        assert f"{LIST}{parent.pk}/change/" in page
        change(admin_client, child, slug="renamed", url="http://elsewhere/mcp")
        after = McpServer.objects.get(pk=child.pk)
        assert (after.slug, after.url) == ("renamed", "http://127.0.0.1:9/adapters/alpha/mcp")

    def test_disabled_server_is_no_matter(self, admin_client: Client) -> None:
        row(state="down", reason="It is off.", enabled=False)
        assert "It is off." not in admin_client.get("/admin/").content.decode()
