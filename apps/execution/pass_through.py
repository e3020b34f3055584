"""A model of an upstream, asked as it is: what comes back is handed on without being rebuilt."""

from collections.abc import AsyncGenerator

from apps.core.errors import Unavailable
from apps.execution.events import RunEvent
from apps.execution.order import PassOrder


async def pass_through(order: PassOrder) -> AsyncGenerator[RunEvent, None]:
    """The answer as Forwarded events, ending with Finished. Raises GatewayError."""
    raise Unavailable(f"'{order.agent_id}' cannot be asked yet.")
    yield  # type: ignore[unreachable]
