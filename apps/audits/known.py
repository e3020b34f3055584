"""What the rules of access can be about, as the rows have it: agents with their tools, and models as they are."""

from collections.abc import Mapping

from apps.catalog.models import DeclaredAgent, DropIn, State
from apps.core import globs
from apps.tools.models import Tool
from apps.upstreams.models import UpstreamModel


def tools_by_agent() -> Mapping[str, list[str]]:
    """The names of the tools of everything that may be chatted with, by its id. Four queries."""
    drop_ins = DropIn.objects.exclude(state=State.GONE).values_list("agent_id", "tools")
    known = {agent_id: [_name(one) for one in tools] for agent_id, tools in drop_ins}
    names = list(Tool.objects.values_list("name", flat=True))
    for agent in DeclaredAgent.objects.only("namespace", "name", "tools"):
        known[agent.agent_id] = [name for name in names if globs.matches(name, agent.tools)]
    exposed = UpstreamModel.objects.filter(upstream__enabled=True, upstream__exposes_models=True)
    known |= {f"{slug}/{name}": [] for slug, name in exposed.values_list("upstream__slug", "name")}
    return known


def _name(tool: object) -> str:
    """Discovery stores names, or objects with one."""
    return str(tool.get("name", "")) if isinstance(tool, dict) else str(tool)
