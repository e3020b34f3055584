from collections.abc import Iterator

from django.conf import settings
from django.urls import reverse

from apps.audits.rule import Found, Rule, Severity
from apps.tools.models import Kind, McpServer, Tool, Transport


def _check() -> Iterator[Found]:
    for server in McpServer.objects.filter(enabled=True):
        if not server.allowed_tools and server.transport != Transport.GATEWAY:
            yield Found(
                f"MCP server {server}",
                "Every tool that it lists is lent, those that it lists tomorrow included.",
                "Name the tools that agents need under Allowed tools, such as read_*.",
                reverse("admin:tools_mcpserver_change", args=[server.pk]),
            )
    tools = Tool.objects.filter(enabled=True)
    for tool in tools.filter(kind=Kind.HTTP, allow_private_hosts=True):
        if not settings.GATEWAY_TOOL_HOSTS:
            yield Found(
                f"tool {tool}",
                "It may ask hosts of private networks and of this machine, and no list says which.",
                "Name the hosts in GATEWAY_TOOL_HOSTS, or take the permission away.",
                reverse("admin:tools_tool_change", args=[tool.pk]),
            )
    if "*" in settings.GATEWAY_TOOL_MODULES and tools.filter(kind=Kind.LOCAL).exists():
        yield Found(
            "GATEWAY_TOOL_MODULES",
            "Any function of any installed package may be made a tool.",
            "Name the modules in GATEWAY_TOOL_MODULES, such as my_tools.*.",
            reverse("admin:tools_tool_changelist"),
        )


RULE = Rule(
    "tools-without-allow-list",
    "Tools without an allow list",
    Severity.MEDIUM,
    "Say what may be lent.",
    _check,
)
