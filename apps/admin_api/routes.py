"""The operators' door: what the admin shows and decides, as JSON. One file for each subject."""

from ninja import Router

from apps.admin_api import agent_errors, changes, configuration, decisions, metrics, overrides, preview, tools

SUBJECTS = (agent_errors, metrics, preview, overrides, configuration, decisions, changes, tools)

router = Router(tags=["Operators' API"])
for subject in SUBJECTS:
    router.add_router("", subject.router)
