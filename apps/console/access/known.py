"""What rules of access can be about: the agents and tools that the catalog knows, and the pages of the rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from apps.access.models import ApiKey
from apps.access.policy import Rule
from apps.catalog.models import DropIn, State


@dataclass(frozen=True, slots=True)
class KnownTool:
    """`module` is "" where the catalog does not know it."""

    name: str
    module: str = ""


def agents() -> Mapping[str, list[KnownTool]]:
    """Every agent that has a folder, by its id, with the tools of its module. One query."""
    rows = DropIn.objects.exclude(state=State.GONE).values_list("agent_id", "tools")
    return {agent_id: list(_tools(entries)) for agent_id, entries in rows}


def tool_names() -> Mapping[str, list[str]]:
    return {agent_id: [tool.name for tool in tools] for agent_id, tools in agents().items()}


def _tools(entries: list[Any]) -> Iterator[KnownTool]:
    """Discovery stores names, or objects with one."""
    for entry in entries:
        if isinstance(entry, dict):
            yield KnownTool(str(entry.get("name", "")), str(entry.get("module", "")))
        else:
            yield KnownTool(str(entry))


def where_from(key: ApiKey) -> dict[str, str]:
    """An address and an origin that the key may be used from, for questions that are not about those."""
    return {"address": next(iter(key.ip_ranges), "").partition("/")[0], "origin": next(iter(key.origins), "")}


def explain_url(key: ApiKey, agent_id: str, tool: str = "") -> str:
    """The page that explains what this key would be answered."""
    asked = {"key": key.pk, "agent": agent_id, "tool": tool, **where_from(key)}
    given = {name: value for name, value in asked.items() if value}
    return f"{reverse('console:explain')}?{urlencode(given)}"


def rule_url(rule: Rule) -> str:
    """The page of a stored rule; "" for one that is only supposed."""
    model, _, pk = rule.id.partition("-")
    return reverse(f"admin:access_{model}_change", args=[pk]) if pk.isdigit() else ""
