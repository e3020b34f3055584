"""The operators' door: what the admin shows and decides, as JSON. One file for each subject."""

from ninja import Router

from apps.admin_api import (
    agent_errors,
    agents,
    audits,
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
from apps.admin_api.parameters import refuse_unknown

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
    audits,
)

# Under which heading /docs shows a subject; under the last one without it.
_HEADINGS = {
    agents: "agents",
    agent_errors: "agents",
    declared_agents: "agents",
    runs: "runs",
    metrics: "metrics",
    keys: "keys and access",
    preview: "keys and access",
    overrides: "keys and access",
    configuration: "keys and access",
    decisions: "keys and access",
    changes: "keys and access",
    upstreams: "upstreams and tools",
    tools: "upstreams and tools",
}

router = Router()
router.add_decorator(refuse_unknown)
for subject in SUBJECTS:
    router.add_router("", subject.router, tags=[f"Operators' API: {_HEADINGS.get(subject, 'further')}"])
