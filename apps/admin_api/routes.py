"""The operators' door: what the admin shows and decides, as JSON. One file for each subject."""

from ninja import Router

from apps.admin_api import (
    agent_errors,
    changes,
    configuration,
    decisions,
    declared_agents,
    metrics,
    overrides,
    preview,
)

SUBJECTS = (agent_errors, declared_agents, metrics, preview, overrides, configuration, decisions, changes)

router = Router(tags=["Operators' API"])
for subject in SUBJECTS:
    router.add_router("", subject.router)
