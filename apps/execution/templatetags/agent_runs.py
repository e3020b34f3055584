"""How an agent's runs went, on pages of apps that know no runs."""

from typing import Any

from django import template

from apps.execution.pages.agent_part import agent_part

register = template.Library()


@register.inclusion_tag("admin/execution/run/of_agent.html", takes_context=True)
def agent_runs(context: Any, agent_id: str) -> dict[str, Any]:
    """Nothing for who may not see runs."""
    may_view = context["request"].user.has_perm("execution.view_run")
    return {"part": agent_part(agent_id) if may_view else None}
