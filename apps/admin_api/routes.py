"""The operators' door: what the admin shows and decides, as JSON. One file for each subject."""

from ninja import Router

from apps.admin_api import (
    agent_errors,
    audits,
    changes,
    configuration,
    decisions,
    declared_agents,
    metrics,
    overrides,
    preview,
    tools,
    upstreams,
)

SUBJECTS = (
    agent_errors,
    declared_agents,
    metrics,
    preview,
    overrides,
    configuration,
    decisions,
    changes,
    upstreams,
    tools,
    audits,
)

router = Router(tags=["Operators' API"])
for subject in SUBJECTS:
    router.add_router("", subject.router)
