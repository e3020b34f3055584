"""GET /ready by the state of the process; tests/v1/test_health.py asks a real one."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpRequest

from apps.core import live_config
from gateway_site import health
from gateway_site.worker import worker


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()
    worker.is_running = False
    live_config._state.is_polled = False


async def readiness() -> tuple[int, str]:
    status: Any = await health.ready(cast("HttpRequest", None))
    return status.status_code, status.value.status


async def test_worker_that_loads_is_not_ready() -> None:
    assert await readiness() == (503, "starting")


async def test_worker_without_a_look_at_the_database_is_stale() -> None:
    worker.is_running = live_config._state.is_polled = True

    assert await readiness() == (503, "stale")


@pytest.mark.django_db
async def test_worker_that_reads_its_configuration_is_ready() -> None:
    await sync_to_async(live_config.refresh)()
    worker.is_running = True

    assert await readiness() == (200, "ready")
