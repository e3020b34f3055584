"""What the console's forms refuse and the models do not, for files. Each raises ValidationError, by field."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.exceptions import ValidationError

from apps.access import key_checks
from apps.access.models import ApiKey, Grant, ToolRule
from apps.access.overrides import NAME_GLOB
from apps.audits.alerts import webhook
from apps.audits.models import AlertChannel
from apps.catalog.models import ModuleRule
from apps.core.globs import AGENT_GLOB
from apps.core.secrets import SecretUnreadable
from apps.tools.checking import problems_with_oauth
from apps.tools.models import McpServer
from apps.upstreams.base_url import mistake, tidied
from apps.upstreams.models import ModelRoute, Upstream

Mistakes = Iterable[tuple[str, str]]  # a field, and a sentence

_NO_GLOB = "is no glob over agent ids: letters, digits, dots, dashes, slashes and stars."


def _check(find: Callable[[Any], Mistakes]) -> Callable[[Any], None]:
    def check(row: Any) -> None:
        if found := dict(find(row)):
            raise ValidationError(found)

    return check


@_check
def upstream(row: Upstream) -> Iterator[tuple[str, str]]:
    if wrong := mistake(row.base_url):
        yield "base_url", wrong
    elif row.base_url != tidied(row.base_url):
        yield "base_url", f"Write it as {tidied(row.base_url)}: what calls begin with, without a slash at its end."


@_check
def route(row: ModelRoute) -> Iterator[tuple[str, str]]:
    if not NAME_GLOB.fullmatch(row.pattern):
        yield "pattern", "One name or one glob, without spaces or commas: gpt-4o, gpt-5*."
    targets = list(row.targets.values_list("upstream", "model"))
    if not targets:
        yield "targets", "A route needs at least one: - {upstream: openai, model: gpt-5-mini}"
    if len(set(targets)) < len(targets):
        yield "targets", "Two are the same upstream and model. Raise the weight of one instead."


@_check
def mcp_server(row: McpServer) -> Iterator[tuple[str, str]]:
    if not all(isinstance(value, str) for value in row.headers.values()):
        yield "headers", "They are a mapping of names to texts: {Accept-Language: en}."
    try:
        oauth = row.oauth
    except SecretUnreadable:  # another secret key stored it, and the file does not name it
        return
    if oauth and problems_with_oauth(oauth):
        yield "oauth", "It needs client_id, client_secret, and token_url or issuer, which says who gets the secret."


@_check
def module_rule(row: ModuleRule) -> Iterator[tuple[str, str]]:
    if not AGENT_GLOB.fullmatch(row.pattern) or row.pattern != row.pattern.lower():
        yield "pattern", f"“{row.pattern}” {_NO_GLOB} Capitals are none of them."


@_check
def key(row: ApiKey) -> Iterator[tuple[str, str]]:
    if not (row.may_chat or row.may_administer):
        yield "may_chat", key_checks.NO_SCOPE
    if wrong := [one for one in row.ip_ranges if not key_checks.is_range(one)]:
        yield "ip_ranges", " ".join(map(key_checks.no_range, wrong))
    try:
        sent = key_checks.as_browsers_send(row.origins)
    except ValueError as error:
        yield "origins", str(error)
    else:
        if sent != row.origins:
            yield "origins", f"Write them as browsers send them: [{', '.join(sent)}]."
    if not key_checks.DIGEST.fullmatch(row.digest):
        yield "digest", "It is the SHA-256 of the key, 64 hexadecimal digits in lower case."


def _of_rule(row: Grant | ToolRule) -> Iterator[tuple[str, str]]:
    if not AGENT_GLOB.fullmatch(row.agents):
        yield "agents", f"“{row.agents}” {_NO_GLOB}"
    if row.namespace and ("*" in row.namespace or "/" in row.namespace or not AGENT_GLOB.fullmatch(row.namespace)):
        yield "namespace", "A namespace is the part of agent ids before the slash, such as labs, without a star."


grant = _check(_of_rule)


@_check
def tool_rule(row: ToolRule) -> Iterator[tuple[str, str]]:
    yield from _of_rule(row)
    if not NAME_GLOB.fullmatch(row.pattern):
        yield "pattern", "No glob over tool names or modules: it has no spaces, commas or semicolons."


@_check
def alert_channel(row: AlertChannel) -> Iterator[tuple[str, str]]:
    if row.kind == AlertChannel.Kind.WEBHOOK and not row.url.startswith(("http://", "https://")):
        yield "url", "A webhook needs the address that it is sent to: https://…"
    if row.kind == AlertChannel.Kind.EMAIL and not row.recipients:
        yield "recipients", "Say who gets the mail: [ops@example.com]."
    try:
        secret = row.secret
    except SecretUnreadable:
        return
    if secret and not webhook.is_secret(secret):
        yield "signing_secret", "It is whsec_ and at least 16 bytes in base64."
