"""/tools: which tools the gateway lends, and reading again what they are made of."""

from typing import Any, Literal, cast

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import ConfigDict, Field

from apps.admin_api.answers import REFUSALS, Page, Paging, Text, page
from apps.admin_api.authentication import OperatorAuth
from apps.core import globs
from apps.tools import refresh
from apps.tools.in_force import description_of
from apps.tools.mcp import listing
from apps.tools.models import Tool
from apps.tools.presentation import state_of

router = Router()

ToolKind = Literal["local", "http", "mcp"]  # an enumeration would share its name in /openapi.json with others


class ToolShown(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "current_time",
                    "kind": "local",
                    "description": "The time and date now, as ISO 8601.",
                    "source": "gateway.local.apps.tools.examples",
                    "parameters": {"type": "object", "properties": {"timezone": {"type": "string"}}},
                    "state": "ok",
                    "remedy": "",
                    "enabled": True,
                    "needs_approval": False,
                    "is_idempotent": True,
                    "cache_seconds": 0,
                    "max_calls_per_run": None,
                    "timeout": 30,
                    "max_concurrency": 16,
                    "max_output_bytes": 65536,
                }
            ]
        }
    )

    name: str
    kind: ToolKind
    description: str = Field(description="What models are told.")
    source: str = Field(description="What rules about tools call its module: docs/tool-access.md.")
    parameters: dict[str, Any] = Field(description="JSON schema of its arguments.")
    state: str = Field(description="ok, off, gone, server_off, server_down or broken.")
    remedy: str = Field(description="What to do about it; empty when nothing is wrong.")
    enabled: bool
    needs_approval: bool
    is_idempotent: bool
    cache_seconds: float
    max_calls_per_run: int | None
    timeout: float = Field(description="Seconds.")
    max_concurrency: int
    max_output_bytes: int


class ToolFilter(Schema):
    kind: ToolKind | None = None
    name: Text = Field("", description="A glob over names, such as crm_*; all without it.")


class FunctionRead(Schema):
    name: str
    is_changed: bool = Field(description="Whether its arguments are others than before.")
    problem: str = Field(description="Why it cannot be called; empty when it can.")


class ServerRead(Schema):
    server: str
    added: list[str] = Field(description="Names of tools; of an mcp-gateway, of adapters.")
    gone: list[str]
    changed: list[str]
    problem: str = Field(description="Why it cannot be read; empty when it was.")


class ToolsRefreshed(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "functions": [{"name": "current_time", "is_changed": False, "problem": ""}],
                    "servers": [{"server": "docs", "added": ["docs_search"], "gone": [], "changed": [], "problem": ""}],
                }
            ]
        }
    )

    functions: list[FunctionRead]
    servers: list[ServerRead]


@router.get(
    "/tools",
    response={200: Page[ToolShown], **REFUSALS},
    auth=OperatorAuth("tools.view_tool"),
    summary="The gateway's tools",
)
def list_tools(
    request: HttpRequest,  # noqa: ARG001
    wanted: Query[ToolFilter],
    paging: Query[Paging],
) -> dict[str, Any]:
    """By name, those that are switched off or gone included. Their URLs, headers and secrets are not told."""
    rows = Tool.objects.select_related("server")
    if wanted.kind:
        rows = rows.filter(kind=wanted.kind)
    if wanted.name:
        names = Tool.objects.values_list("name", flat=True)
        rows = rows.filter(name__in=[name for name in names if globs.fits(name, wanted.name)])
    found, total = page(rows, paging)
    return {"data": [_shown(row) for row in found], "total": total}


@router.post(
    "/tools/refresh",
    response={200: ToolsRefreshed, **REFUSALS},
    auth=OperatorAuth("tools.change_tool"),
    summary="Read again what tools are made of",
)
def refresh_tools(request: HttpRequest) -> ToolsRefreshed:  # noqa: ARG001
    """The signatures of functions, and the lists of MCP servers.

    Modules that could not be imported are tried again; those that are imported stay until a restart. MCP servers that
    are processes of this machine are not started for this: the gateway's own connections follow their lists.
    """
    return ToolsRefreshed(
        functions=[
            FunctionRead(name=one.name, is_changed=one.is_changed, problem=one.problem)
            for one in refresh.read_functions()
        ],
        servers=[_server_read(one) for one in listing.refresh(processes=False)],
    )


def _server_read(one: listing.Refreshed) -> ServerRead:
    names = {"added": list(one.added), "gone": list(one.gone), "changed": list(one.changed)}
    return ServerRead(server=one.server, problem=one.error, **names)


def _shown(row: Tool) -> ToolShown:
    state = state_of(row)
    return ToolShown(
        name=row.name,
        kind=cast("ToolKind", row.kind),
        description=description_of(row),
        source=row.source(),
        parameters=row.parameters,
        state=state.code,
        remedy=state.remedy,
        enabled=row.enabled,
        needs_approval=row.needs_approval,
        is_idempotent=row.is_idempotent,
        cache_seconds=row.cache_seconds,
        max_calls_per_run=row.max_calls_per_run,
        timeout=row.timeout,
        max_concurrency=row.max_concurrency,
        max_output_bytes=row.max_output_bytes,
    )
