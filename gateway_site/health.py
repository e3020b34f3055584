"""Is the process alive, and can it serve? For load balancers and container orchestrators; no key needed."""

from django.http import HttpRequest
from ninja import Router, Schema, Status

from apps.access.limits.keeper import NOT_ENFORCED, keeper
from apps.core import live_config
from apps.execution import keeping
from gateway_site.worker import worker

router = Router(tags=["Health"])


class Health(Schema):
    status: str


class Readiness(Schema):
    """`reason` says in a sentence why a worker is not ready, or what it has to do without."""

    status: str
    reason: str = ""


@router.get("/health", response=Health, summary="The process is alive")
async def health(request: HttpRequest) -> Health:  # noqa: ARG001
    return Health(status="ok")


def _shortcoming() -> str:
    """What a worker that serves has to do without."""
    return " ".join(filter(None, (NOT_ENFORCED if keeper.outage else "", keeping.trouble())))


@router.get("/ready", response={200: Readiness, 503: Readiness}, summary="The worker can serve requests")
async def ready(request: HttpRequest) -> Status[Readiness]:  # noqa: ARG001
    if not worker.is_running:
        return Status(503, Readiness(status="starting", reason="The worker is still loading."))
    if live_config.is_stale():
        return Status(503, Readiness(status="stale", reason="The database does not answer."))
    return Status(200, Readiness(status="ready", reason=_shortcoming()))
