"""The operators' door: what the admin shows and decides, as JSON. One file for each subject."""

from ninja import Router

from apps.admin_api import (
    agent_errors,
    agents,
    changes,
    configuration,
    decisions,
    declared_agents,
    keys,
    metrics,
    overrides,
    preview,
    runs,
    tools,
    upstreams,
)

SUBJECTS = (
    agents,
    agent_errors,
    declared_agents,
    runs,
    metrics,
    keys,
    preview,
    overrides,
    configuration,
    decisions,
    changes,
    upstreams,
    tools,
)

router = Router(tags=["Operators' API"])
for subject in SUBJECTS:
    router.add_router("", subject.router)
