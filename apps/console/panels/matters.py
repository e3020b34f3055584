"""What of the gateway itself may need attention, a source each: at most SHOWN of a kind, the lists have the rest."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from django.conf import settings
from django.db import connection
from django.db.models import Count, Min
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.timesince import timesince

from apps.access.limits.keeper import NOT_ENFORCED, keeper
from apps.access.models import ApiKey
from apps.catalog.models import Diagnostic
from apps.console.matter import Matter
from apps.console.panels.look import Look
from apps.console.panels.words import counted, lasting, percent
from apps.core.write_behind import writers
from apps.execution.models import Approval
from apps.upstreams.admin.health_page import remedy as what_to_do
from apps.upstreams.health import State as Health
from apps.upstreams.models import Kind

SHOWN: Final = 8
EXPIRES_SOON: Final = timedelta(days=14)
HIGH_ERROR_RATE: Final = 0.2
ENOUGH_RUNS: Final = 5  # before a rate says anything
FEW_BYTES: Final = 1024**3  # of a disk with the database on it
HARDLY_ANY_BYTES: Final = 200 * 1024**2


def limits(_look: Look) -> Iterator[Matter]:
    if keeper.outage:
        remedy = f"Start it; it is tried again every second. It said: {keeper.outage}"
        yield Matter(NOT_ENFORCED, remedy, url("access_limit"))


def workers(look: Look) -> Iterator[Matter]:
    if not look.workers:
        remedy = (
            "Start one with make run, or look into the log of why it stopped; this page is served by another process."
        )
        yield Matter("No worker has given a sign of life in the last half minute.", remedy, url("catalog_dropin"))
    if look.unheard_for:
        title = f"This worker has not read its configuration for {look.unheard_for:.0f} seconds."
        remedy = "Look whether the database answers, and into the log for configuration_unreadable; then restart it."
        yield Matter(title, remedy, url("catalog_dropin"))


def folders(look: Look) -> Iterator[Matter]:
    rows = {id: one.pk for one in look.folders for id in (one.folder_id, one.agent_id)}  # some concern the folder
    if not rows:
        remedy = "Copy an Agents SDK module to agents/<Name>/agent.py; within two seconds it is served."
        yield Matter("There are no agents yet.", remedy, url("catalog_dropin"), is_urgent=False)
    for one in Diagnostic.objects.order_by("severity", "-found_at")[:SHOWN]:
        link = url("catalog_dropin", rows.get(one.agent_id))
        yield Matter(f"{one.agent_id}: {one.reason}", one.remedy, link, is_urgent=one.severity == "error")


def declared(look: Look) -> Iterator[Matter]:
    live = (one for one in look.declared.values() if one.enabled)
    found = [(one, problem) for one in live for problem in one.problems]
    found.sort(key=lambda pair: pair[1].severity)  # errors before warnings
    for one, problem in found[:SHOWN]:
        link = url("catalog_declaredagent") + "?" + urlencode({"q": one.agent_id.partition("/")[2]})
        yield Matter(f"{one.agent_id}: {problem.reason}", problem.remedy, link, is_urgent=problem.severity == "error")


def upstreams(look: Look) -> Iterator[Matter]:
    enabled = [row for row, _ in look.upstreams if row.enabled]
    failing = [(row, seen) for row, seen in look.upstreams if row.enabled and seen.state in _FAILING]
    for row, seen in sorted(failing, key=lambda pair: pair[1].state is not Health.DOWN)[:SHOWN]:
        title = f"{row} is {seen.state}{lasting(seen.since, look.now)}: {seen.reason}"
        link, is_down = url("upstreams_upstream", row.pk), seen.state is Health.DOWN
        yield Matter(title, what_to_do(row, seen), link, is_urgent=is_down)
    if all(row.kind == Kind.DEMO for row in enabled):
        yield Matter(
            "Only the built-in demo answers: no real model does.",
            "Connect an LLM server: OpenAI, Ollama, LM Studio, vLLM or any OpenAI-compatible one.",
            reverse("admin:upstreams_upstream_add"),
            is_urgent=False,
        )
    elif not any(row.is_default for row in enabled):
        remedy = "Open one and press Make default, so that agents without a known model run."
        yield Matter("No enabled upstream is the default.", remedy, url("upstreams_upstream"))


_FAILING = (Health.DOWN, Health.DEGRADED)


def servers(look: Look) -> Iterator[Matter]:
    for server in [one for one in look.servers if one.state == "down"][:SHOWN]:
        title = f"MCP server {server} is down{lasting(server.state_since, look.now)}: {server.reason}"
        yield Matter(title, "Mend it, then press Connect anew; or disable it.", url("tools_mcpserver", server.pk))


def failing_agents(look: Look) -> Iterator[Matter]:
    """By the runs that began in the last hour, to ten minutes."""
    found = [
        (one.failed, one.runs, agent_id)
        for agent_id, one in look.of_hour.items()
        if one.runs >= ENOUGH_RUNS and one.failed >= HIGH_ERROR_RATE * one.runs
    ]
    for failed, runs, agent_id in sorted(found, reverse=True)[:SHOWN]:
        title = f"{agent_id}: {failed} of {counted(runs, 'run')} of the last hour failed ({percent(failed / runs)})."
        yield Matter(title, "Look at what the failed ones say; their error names the part at fault.",
                     runs_of(agent_id, outcome="failed"))  # fmt: skip


def rows_not_written(_look: Look) -> Iterator[Matter]:
    """Of this process, since it was started: the others tell it on their own pages and in their metrics."""
    for writer in writers():
        if writer.lost:
            title = f"This worker could not store {counted(writer.lost, 'row')} of {writer.name}: they are lost."
            remedy = "Its log says why, as row_refused; it may be the database, or a fault of the gateway."
            yield Matter(title, remedy, url("execution_run"))
        if writer.dropped:
            title = (
                f"This worker dropped {counted(writer.dropped, 'row')} of {writer.name}: there were too many at once."
            )
            remedy = "Runs are not concerned. If it goes on, the database is too slow for what is asked of it."
            yield Matter(title, remedy, url("execution_run"), is_urgent=False)


def disk(_look: Look) -> Iterator[Matter]:
    """Of the data folder, where it is this machine's disk that the database fills."""
    if connection.vendor != "sqlite":
        return
    left = shutil.disk_usage(settings.DATA_DIR).free
    if left < FEW_BYTES:
        title = f"The disk of the data folder is nearly full: {filesizeformat(left)} left."
        remedy = "Make room, or keep runs for fewer days. When it is full, runs and changes cannot be stored."
        yield Matter(title, remedy, reverse("admin:index"), is_urgent=left < HARDLY_ANY_BYTES)


def approvals(look: Look) -> Iterator[Matter]:
    waiting = Approval.objects.filter(decided_at=None, expires_at__gt=look.now)
    found = waiting.aggregate(count=Count("pk"), oldest=Min("created_at"))
    if found["count"]:
        since = timesince(found["oldest"], look.now, depth=1)
        verb = "waits" if found["count"] == 1 else "wait"
        title = f"{counted(found['count'], 'run')} {verb} for a person's approval, the oldest for {since}."
        remedy = "The person in that chat decides with the next message; here is what each wants to do."
        yield Matter(title, remedy, url("execution_approval"), is_urgent=False)


def keys(look: Look) -> Iterator[Matter]:
    soon = ApiKey.objects.in_force(look.now).filter(expires_at__lte=look.now + EXPIRES_SOON).order_by("expires_at")
    for key in soon[:SHOWN]:
        days = (key.expires_at - look.now).days if key.expires_at else 0
        when = f"in {counted(days, 'day')}" if days else "today"
        remedy = "Extend it, or issue another one to whoever uses it."
        yield Matter(f"The key “{key.name}” expires {when}.", remedy, url("access_apikey", key.pk), is_urgent=days < 3)


def url(model: str, key: object = None) -> str:
    """The page of a row, else of the list."""
    if key is None:
        return reverse(f"admin:{model}_changelist")
    return reverse(f"admin:{model}_change", args=[key])


def runs_of(agent_id: str, **more: str) -> str:
    """The list of an agent's runs."""
    return url("execution_run") + "?" + urlencode({"agent": agent_id, **more})
