"""MCP servers in the console: add one, see how it stands and what it has, read it again, connect anew."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

import shlex
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action
from unfold.utils import display_for_label

from apps.core import clock
from apps.core.ages import age
from apps.core.forms import link_to
from apps.tools.admin.server_form import McpServerForm
from apps.tools.mcp.listing import Refreshed, refresh
from apps.tools.models import McpServer, Tool, Transport

STATES = {
    "connected": ("connected", "Connected"),
    "connecting": ("connecting", "Connecting"),
    "down": ("down", "Down"),
    "": ("", "Not tried yet"),
}
_STATE_COLOURS = {"connected": "success", "connecting": "info", "down": "danger", "": "warning", "disabled": None}
_GONE = {"gone": "warning", "off": None, "usable": "success"}
_HTTP_FIELDS = "url", "headers", "token", "secret_lines"


class _Listed(TabularInline):
    """What the server has. It is changed on its own page."""

    extra = 0
    per_page = 50
    hide_title = True
    can_delete = False
    show_change_link = True

    def has_add_permission(self, _request: HttpRequest, _obj: McpServer | None = None) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: McpServer | None = None) -> bool:
        return False


class ToolsInline(_Listed):
    model = Tool
    verbose_name_plural = "tools that the server lists"
    fields = readonly_fields = ["name", "use", "remote_name", "told"]

    @admin.display(description="State")
    def use(self, tool: Tool) -> str:
        if tool.gone_at:
            return str(display_for_label(("gone", "Not listed any more"), "-", _GONE))
        return str(display_for_label(("usable", "Usable") if tool.enabled else ("off", "Switched off"), "-", _GONE))

    @admin.display(description="Description")
    def told(self, tool: Tool) -> str:
        return Truncator(tool.description).chars(120)


class AdaptersInline(_Listed):
    model = McpServer
    fk_name = "parent"
    verbose_name_plural = "adapters"
    fields = readonly_fields = ["slug", "state_shown", "url", "reason"]

    @admin.display(description="State")
    def state_shown(self, server: McpServer) -> str:
        return _label(server)


@admin.register(McpServer)
class McpServerAdmin(ModelAdmin):
    form = McpServerForm
    list_display = ["slug", "state_shown", "transport_shown", "address", "tools_listed", "reason_shown"]
    list_filter = ["transport", "enabled", "state"]
    list_filter_sheet = False
    list_select_related = ["parent"]
    search_fields = ["slug", "url", "reason"]
    actions_detail = ["read_tools", "connect_anew"]
    readonly_fields = ["state_shown", "tools_shown", "protocol", "reason_shown", "parent_shown"]
    empty_title = "No MCP server"
    empty_text = (
        "Add one by its URL, and its tools can be lent to any agent; or Microsoft's mcp-gateway, whose adapters are "
        "found by themselves."
    )
    _limits = ("Limits", {"fields": ["allowed_tools", ("timeout", "max_concurrency")]})
    _oauth = (
        "OAuth client credentials",
        {
            "classes": ["collapse"],
            "fields": [("client_id", "client_secret"), "token_url", ("issuer", "scope")],
            "description": "Instead of a token. Tokens are kept in memory, and asked for again in time.",
        },
    )

    # --- what is shown -----------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(tool_count=Count("tools", filter=Q(tools__gone_at=None)))

    def get_form(self, request: HttpRequest, obj: McpServer | None = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["fields"] = McpServerForm.Meta.fields  # the fieldsets name some that are no model's
        form = super().get_form(request, obj, change=change, **kwargs)
        return _with(form, may_use_processes=_may_use_processes(request))

    def get_fieldsets(self, request: HttpRequest, obj: McpServer | None = None) -> Any:
        process = ("Process", {"fields": ["command_line", "environment_lines"]})
        first = ["slug", "transport"] if obj is None or not obj.parent_id else ["slug", "parent_shown"]
        main = [tuple(first), *([] if obj and obj.transport == Transport.STDIO else _HTTP_FIELDS), "enabled"]
        server = ("Server", {"fields": main})
        if obj is None:
            return [server, *([process] if _may_use_processes(request) else []), self._oauth, self._limits]
        state = ("State", {"fields": [("state_shown", "protocol"), "tools_shown", "reason_shown"]})
        rest = [process] if obj.transport == Transport.STDIO else [self._oauth]
        if obj.encrypted_headers or obj.encrypted_environment or obj.encrypted_oauth:
            server[1]["fields"].append("clear_secrets")
        return [state, server, *rest, self._limits]

    def get_readonly_fields(self, request: HttpRequest, obj: McpServer | None = None) -> Any:
        follows = ["url"] if obj and obj.parent_id else []  # its mcp-gateway says where it is
        settled = ["transport"] if obj else []  # another one would need other fields
        return [*super().get_readonly_fields(request, obj), *settled, *follows]

    def get_inlines(self, _request: HttpRequest, obj: McpServer | None) -> list[type[_Listed]]:
        if obj is None:
            return []
        return [AdaptersInline] if obj.transport == Transport.GATEWAY else [ToolsInline]

    @admin.display(description="State", ordering="state")
    def state_shown(self, server: McpServer) -> str:
        return _label(server)

    @admin.display(description="At")
    def address(self, server: McpServer) -> str:
        return Truncator(server.url or shlex.join(server.command)).chars(60)

    @admin.display(description="Tools", ordering="tool_count")
    def tools_shown(self, server: McpServer) -> str:
        read = f", looked at {age(server.checked_at)} ago" if server.checked_at else ""
        return f"{server.tool_count}{read}"  # type: ignore[attr-defined]  # get_queryset puts it there

    @admin.display(description="Transport", ordering="transport")
    def transport_shown(self, server: McpServer) -> str:
        """In a word: the others are on the form."""
        return {Transport.STDIO: "stdio", Transport.SSE: "SSE", Transport.GATEWAY: "mcp-gateway"}.get(
            Transport(server.transport), "HTTP"
        )

    @admin.display(description="Tools", ordering="tool_count")
    def tools_listed(self, server: Any) -> str:
        when = f"looked at {age(server.checked_at)} ago" if server.checked_at else "not looked at yet"
        return format_html('<span title="{}">{}</span>', when, server.tool_count)

    @admin.display(description="Why")
    def reason_shown(self, server: McpServer) -> str:
        return server.reason if server.enabled else ""

    @admin.display(description="Adapter of")
    def parent_shown(self, server: McpServer) -> str:
        return link_to(reverse("admin:tools_mcpserver_change", args=[server.parent_id]), server.parent)

    # --- who may, and saving -----------------------------------------------------------------------------------------

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and _may_touch(request, obj)

    def save_model(self, request: HttpRequest, obj: McpServer, form: McpServerForm, change: bool) -> None:
        form.save_secrets()
        super().save_model(request, obj, form, change)
        if obj.enabled and (not change or form.changed_data):
            # After the transaction: nothing may hold the database's write lock while a server is asked.
            transaction.on_commit(partial(self._read, request, obj))

    def _read(self, request: HttpRequest, server: McpServer) -> None:
        for one in refresh(server.slug):
            if one.error:
                messages.warning(request, f"{one.server} could not be read. {one.error}")
            else:
                messages.success(request, f"{one.server}: {_changes(one)}.")

    # --- buttons of the detail page ----------------------------------------------------------------------------------

    @action(
        description="Read tools",
        icon="refresh",
        permissions=["use"],
        dialog={
            "title": "Read what this server has?",
            "description": "Connects to it, and stores the tools that it lists; of an mcp-gateway its adapters and "
            "theirs. What is set on the tools stays.",
            "form_submit_text": "Read",
        },
    )
    def read_tools(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        self._read(request, get_object_or_404(McpServer, pk=object_id))
        return _back_to(object_id)

    @action(
        description="Connect anew",
        icon="cable",
        permissions=["use"],
        dialog={
            "title": "Connect to this server anew?",
            "description": "Every worker opens a new connection within a second, and closes the old one when the calls "
            "under way have ended.",
            "form_submit_text": "Connect anew",
        },
    )
    def connect_anew(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        server = get_object_or_404(McpServer, pk=object_id)
        server.renewed_at = clock.now()
        server.save(update_fields=["renewed_at"])
        self.log_change(request, server, "Connected anew.")
        messages.success(request, f"Every worker connects to {server} anew.")
        return _back_to(object_id)

    def has_use_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        server = McpServer.objects.filter(pk=object_id).first()
        return server is not None and self.has_change_permission(request, server)


def _may_use_processes(request: HttpRequest) -> bool:
    """Whoever may name a command may do what the gateway's user may."""
    return request.user.is_active and request.user.is_superuser


def _may_touch(request: HttpRequest, server: McpServer | None) -> bool:
    return server is None or server.transport != Transport.STDIO or _may_use_processes(request)


def _with(form: Any, **given: Any) -> Any:
    """The form class, made with these arguments."""

    class Form(form):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **given, **kwargs)

    return Form


def _label(server: McpServer) -> str:
    if not server.enabled:
        shown = ("disabled", "Not listed any more" if server.gone_at else "Disabled")
    else:
        shown = STATES.get(server.state, STATES[""])
    return str(display_for_label(shown, "-", _STATE_COLOURS))


def _changes(one: Refreshed) -> str:
    told = [f"{word} {', '.join(names)}" for word in ("added", "gone", "changed") if (names := getattr(one, word))]
    return Truncator("; ".join(told) or "nothing has changed").chars(300)


def _back_to(object_id: str) -> HttpResponse:
    """The dialog's answer: the browser loads the detail page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse("admin:tools_mcpserver_change", args=[object_id])})
