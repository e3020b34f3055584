"""A run of a declared agent: the model and the tools in turn, until the model answers."""

from collections.abc import AsyncGenerator

from apps.core.errors import Unavailable
from apps.execution.events import RunEvent
from apps.execution.order import DeclaredOrder


async def run_declared(order: DeclaredOrder) -> AsyncGenerator[RunEvent, None]:
    """The events of the run, ending with Finished. Raises GatewayError."""
    raise Unavailable(f"'{order.agent_id}' cannot be run yet.")
    yield  # type: ignore[unreachable]
