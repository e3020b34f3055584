"""The parts of the gateway, a tile each: whether it is well, in how many of what, and where to look."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.urls import reverse

from apps.access.limits.in_force import limits_in_force
from apps.access.limits.keeper import keeper
from apps.catalog import serving_workers
from apps.catalog.models import State
from apps.catalog.registry import Entry
from apps.console.panels.level import Level
from apps.console.panels.look import Look
from apps.console.panels.words import counted, listed
from apps.tools import local
from apps.tools.models import Kind as ToolKind
from apps.tools.models import Tool
from apps.upstreams.health import State as Health
from apps.upstreams.models import Kind


@dataclass(frozen=True, slots=True)
class Tile:
    """`problem` is a clause for the sentence at the top, empty where all is well."""

    title: str
    level: Level
    word: str
    number: str
    text: str
    link: str
    problem: str = ""

    @property
    def key(self) -> str:
        return self.title.lower().replace(" ", "-")


def tiles(look: Look) -> list[Tile]:
    """Those that the viewer may see."""
    return [tile(look) for needed, tile in _TILES if look.may(needed)]


def _folders(look: Look) -> Tile:
    folders = look.folders
    on = [one for one in folders if one.enabled is not False]
    gone = len(look.agents) - len(folders)
    states = Counter(one.state for one in on)
    broken, stale = states[State.BROKEN], states[State.STALE]
    serving = states[State.LIVE] + stale
    number = f"{serving} of {len(look.agents)}" if serving < len(look.agents) else f"{serving}"
    link = reverse("admin:catalog_dropin_changelist")
    text = listed(
        f"{broken} broken" if broken else "",
        f"{stale} in the last good version" if stale else "",
        f"{states[State.DENIED]} denied" if states[State.DENIED] else "",
        f"{len(folders) - len(on)} disabled" if len(on) < len(folders) else "",
        f"{gone} gone" if gone else "",
    )
    if broken:
        problem = f"{counted(broken, 'agent')} {'is' if broken == 1 else 'are'} broken"
        return Tile("Agents", Level.DOWN, "Broken", number, text, link, problem)
    if stale:
        problem = f"{counted(stale, 'agent')} {'serves its' if stale == 1 else 'serve their'} last good version"
        return Tile("Agents", Level.ATTENTION, "Not the newest", number, text, link, problem)
    if not serving:
        return Tile("Agents", Level.IDLE, "None", "0", text or "no folder serves", link)
    return Tile("Agents", Level.WELL, "Serving", number, text or "of folders, all as they lie there", link)


def _declared(look: Look) -> Tile:
    live = [one for one in look.declared.values() if one.enabled]
    broken = [one for one in live if _is_broken(one)]
    number, link = f"{len(live) - len(broken)}", reverse("admin:catalog_declaredagent_changelist")
    unpublished = len(look.declared) - len(live)
    text = listed(f"{len(broken)} broken" if broken else "", f"{unpublished} not published" if unpublished else "")
    if broken:
        problem = f"{counted(len(broken), 'declared agent')} {'has' if len(broken) == 1 else 'have'} nothing to answer"
        return Tile("Declared agents", Level.DOWN, "Broken", number, text, link, problem)
    if not live:
        return Tile("Declared agents", Level.IDLE, "None", "0", text or "none was written yet", link)
    return Tile("Declared agents", Level.WELL, "Serving", number, text or "all that are published", link)


def _is_broken(one: Entry) -> bool:
    return any(problem.severity == "error" for problem in one.problems)


def _upstreams(look: Look) -> Tile:
    on = [(row, seen) for row, seen in look.upstreams if row.enabled]
    down = [row.slug for row, seen in on if seen.state is Health.DOWN]
    degraded = [row.slug for row, seen in on if seen.state is Health.DEGRADED]
    untried = [row for row, seen in on if seen.state is Health.UNKNOWN and row.kind != Kind.DEMO]
    number, link = f"{len(on) - len(down)} of {len(on)}", reverse("admin:upstreams_upstream_changelist")
    default = next((row.slug for row, _ in on if row.is_default), "none")
    text = listed(f"default: {default}", f"{len(untried)} not tried yet" if untried else "")
    if not on:
        return Tile("Upstreams", Level.DOWN, "None", "0", "no agent can answer", link, "no upstream is enabled")
    if down:
        return Tile("Upstreams", Level.DOWN, "Down", number, text, link, _names("upstream", down, "down"))
    if degraded:
        return Tile(
            "Upstreams", Level.ATTENTION, "Degraded", number, text, link, _names("upstream", degraded, "degraded")
        )
    word = "Demo only" if all(row.kind == Kind.DEMO for row, _ in on) else "Answering"
    return Tile("Upstreams", Level.WELL, word, number, text, link)


def _tools(_look: Look) -> Tile:
    rows = list(Tool.objects.filter(enabled=True).values_list("kind", "function", "gone_at"))
    gone = sum(1 for _, _, gone_at in rows if gone_at)
    broken = sum(1 for kind, function, _ in rows if kind == ToolKind.LOCAL and not _imports(function))
    number, link = f"{len(rows) - gone - broken}", reverse("admin:tools_tool_changelist")
    text = listed(f"{broken} cannot be imported" if broken else "", f"{gone} gone" if gone else "")
    if broken or gone:
        out = broken + gone
        problem = f"{counted(out, 'tool')} {'is' if out == 1 else 'are'} out of use"
        return Tile("Tools", Level.ATTENTION, "Out of use", number, text, link, problem)
    if not rows:
        return Tile("Tools", Level.IDLE, "None", "0", "the gateway lends none", link)
    return Tile("Tools", Level.WELL, "Usable", number, "to be lent to agents", link)


def _imports(function: str) -> bool:
    try:
        local.find(function)
    except local.FunctionUnusable:
        return False
    return True


def _servers(look: Look) -> Tile:
    states = Counter(one.state for one in look.servers)
    down = [one.slug for one in look.servers if one.state == "down"]
    link = reverse("admin:tools_mcpserver_changelist")
    number = f"{states['connected']} of {len(look.servers)}"
    if not look.servers:
        return Tile("MCP servers", Level.IDLE, "None", "0", "none is enabled", link)
    if down:
        text, problem = f"{len(down)} down", _names("MCP server", down, "down")
        return Tile("MCP servers", Level.DOWN, "Down", number, text, link, problem)
    waiting = len(look.servers) - states["connected"]
    if waiting:
        return Tile("MCP servers", Level.WELL, "Connecting", number, f"{waiting} not connected yet", link)
    return Tile("MCP servers", Level.WELL, "Connected", number, "and their lists are read", link)


def _workers(look: Look) -> Tile:
    number, link = f"{len(look.workers)}", reverse("admin:catalog_dropin_changelist")
    if not look.workers:
        return Tile("Workers", Level.DOWN, "None answers", "0", "nobody serves", link, "no worker answers")
    if disputed := serving_workers.disputed(look.workers):
        text = f"disagree about {counted(len(disputed), 'agent')}"
        return Tile("Workers", Level.ATTENTION, "Disagree", number, text, link, f"the workers {text}")
    if look.unheard_for:
        return Tile(
            "Workers", Level.DOWN, "Stale", number, "configuration is not read", link, "configuration is not read"
        )
    text = "serve the same versions" if len(look.workers) > 1 else "serves"
    return Tile("Workers", Level.WELL, "Answering", number, text, link)


def _limits(_look: Look) -> Tile:
    count, link = len(limits_in_force().rules), reverse("admin:access_limit_changelist")
    if keeper.outage:
        text = "their store does not answer"
        return Tile("Limits", Level.DOWN, "Not enforced", f"{count}", text, link, "limits are not enforced")
    if not count:
        return Tile("Limits", Level.IDLE, "None", "0", "everyone may use as much as they like", link)
    return Tile("Limits", Level.WELL, "Enforced", f"{count}", "in force", link)


def _names(what: str, slugs: list[str], state: str) -> str:
    shown = ", ".join(slugs[:3]) + (f" and {len(slugs) - 3} more" if len(slugs) > 3 else "")
    return f"{what} {shown} is {state}" if len(slugs) == 1 else f"{what}s {shown} are {state}"


_TILES: tuple[tuple[str, Callable[[Look], Tile]], ...] = (
    ("catalog.view_dropin", _folders),
    ("catalog.view_declaredagent", _declared),
    ("upstreams.view_upstream", _upstreams),
    ("tools.view_tool", _tools),
    ("tools.view_mcpserver", _servers),
    ("catalog.view_dropin", _workers),
    ("access.view_limit", _limits),
)


def problems(shown: list[Tile]) -> Iterator[str]:
    """The worst first."""
    yield from (tile.problem for tile in sorted(shown, key=lambda one: -one.level) if tile.problem)
