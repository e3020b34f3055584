"""The lines of a drop-in's run: that it began, and how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import structlog

from apps.core.errors import GatewayError
from apps.execution.order import ModuleOrder
from apps.observability.plain import said

log = structlog.get_logger(__name__)


class Told:
    def __init__(self, order: ModuleOrder) -> None:
        self.order = order
        self.is_over = False
        self._began = perf_counter()
        log.info("sdk_agent.start", agent=order.agent_id, version=order.digest[:12])

    def succeeded(self, *, refused: bool) -> None:
        self.is_over = True
        log.info("sdk_agent.success", refused=refused, **self.facts())

    def facts(self) -> dict[str, Any]:
        calls = self.order.calls.calls
        served = {"upstream": calls[-1].upstream, "model": calls[-1].model} if calls else {}
        took = round((perf_counter() - self._began) * 1000, 1)
        return {"agent": self.order.agent_id, "duration_ms": took, **served}


@contextmanager
def told(order: ModuleOrder) -> Iterator[Told]:
    """`sdk_agent.start`; then `sdk_agent.success`, which whoever is inside says, or `.failure`, or `.cancelled`."""
    ending = Told(order)
    try:
        yield ending
    except GatewayError as error:
        cause = error.__cause__
        log.warning(
            "sdk_agent.failure",
            kind=error.code or "",
            error=error.message,
            cause=said(cause) if cause else None,
            **ending.facts(),
        )
        raise
    except Exception as error:
        log.warning("sdk_agent.failure", kind="gateway", error=said(error), cause=None, **ending.facts())
        raise
    except BaseException:  # its client left, or the gateway stops
        if not ending.is_over:
            log.info("sdk_agent.cancelled", **ending.facts())
        raise
