"""What to tell who has just saved a declared agent: is there a server for it, with its model, and does that take tools?

Asks the real server, in bounded time; call it outside of any transaction. Nothing here keeps an agent from being saved.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from apps.catalog import declared_checks
from apps.catalog.declared import declared
from apps.catalog.models import DeclaredAgent
from apps.catalog.run_options import namespace_default
from apps.core import live_config
from apps.core.errors import Unavailable, UpstreamError
from apps.tools.in_force import matching
from apps.upstreams import probe
from apps.upstreams.models import Kind, Upstream
from apps.upstreams.routing import Preference, Route, upstreams

LIST_TIMEOUT = 5.0  # seconds
MOST_LISTS = 3


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence; `is_good`, or something to be mended."""

    is_good: bool
    text: str


def judge(agent: DeclaredAgent) -> list[Remark]:
    """What is good first. Takes as long as its server does, half a minute at most."""
    asked = [*_read_lists(agent), *_ask_server(agent)]
    wrong = [Remark(False, text) for text in declared_checks.remarks(agent)]
    return sorted([*asked, *wrong], key=lambda one: not one.is_good)


def _read_lists(agent: DeclaredAgent) -> Iterator[Remark]:
    """Of servers that may have its model, and whose lists were never read."""
    unread = Upstream.objects.filter(enabled=True, models_read_at=None).exclude(kind=Kind.DEMO)
    for upstream in (unread.filter(pk=agent.upstream_id) if agent.upstream_id else unread)[:MOST_LISTS]:
        try:
            probe.refresh_models(upstream, timeout=LIST_TIMEOUT)
        except UpstreamError as error:
            yield Remark(False, f"Whether '{upstream.slug}' has its model is not known: {error.message}")


def _ask_server(agent: DeclaredAgent) -> Iterator[Remark]:
    live_config.refresh()
    try:
        route = _route(agent)
    except Unavailable:
        return  # one of the remarks
    if route.target.kind == Kind.DEMO:
        yield Remark(True, f"The built-in demo answers for {agent.agent_id}: it takes any model, and tools.")
        return
    if route.model not in route.target.models:
        return  # another one
    yield Remark(True, f"{route.model} of '{route.target.slug}' answers for {agent.agent_id}.")
    if matching(declared(agent).tools):
        step = probe.try_tools(Upstream.objects.get(slug=route.target.slug), route.model)
        yield Remark(step.passed, step.text)


def _route(agent: DeclaredAgent) -> Route:
    """Raises Unavailable."""
    prefer = Preference(instead=declared(agent).options.model, default=namespace_default(agent.agent_id))
    return upstreams.current().route(None, prefer=prefer)
