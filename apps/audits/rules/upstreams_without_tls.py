from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.urls import reverse

from apps.audits.rule import Found, Rule, Severity
from apps.tools.models import McpServer
from apps.upstreams.models import Upstream


def _check() -> Iterator[Found]:
    """Of what leaves this machine; names without a dot are of its own network, such as a compose file's."""
    for upstream in Upstream.objects.filter(enabled=True):
        if leaves_in_the_clear(upstream.base_url):
            what = "prompts, answers and the API key" if upstream.encrypted_secret else "prompts and answers"
            link = reverse("admin:upstreams_upstream_change", args=[upstream.pk])
            yield Found(f"upstream {upstream}", f"{upstream.base_url} carries {what} unencrypted.", link=link)
    for server in McpServer.objects.filter(enabled=True):
        if leaves_in_the_clear(server.url):
            link = reverse("admin:tools_mcpserver_change", args=[server.pk])
            yield Found(f"MCP server {server}", f"{server.url} carries calls and results unencrypted.", link=link)


def leaves_in_the_clear(url: str) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "http" or "." not in host.replace(":", "."):
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return not host.endswith((".localhost", ".internal", ".local"))


RULE = Rule(
    "upstreams-without-tls",
    "Servers that are reached without TLS",
    Severity.MEDIUM,
    "Use its https address, put a proxy with TLS before it, or accept this finding where the network is your own.",
    _check,
)
