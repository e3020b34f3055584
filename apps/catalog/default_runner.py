"""The SDK's default runner, which every `Runner.run` of the process goes through: set by the gateway, by nobody else.

A module that sets a runner of its own would run all other agents with it.
"""

import agents.run
import structlog
from agents.run import AgentRunner
from agents.run import set_default_agent_runner as _set

log = structlog.get_logger(__name__)


def install(runner: AgentRunner) -> None:
    """Make it the default. From now on the SDK's own function only logs that somebody wanted another."""
    _set(runner)
    agents.run.set_default_agent_runner = _keep


def _keep(runner: AgentRunner | None) -> None:
    log.warning("default_runner_kept", wanted=type(runner).__qualname__)
