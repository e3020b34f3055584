"""Where SandboxAgents work: a folder of their own on this machine, made for the run and removed after it.

The module says what such an agent may do; where it does it is the caller's to say. The SDK's local client does not
confine commands on Linux: they have the rights of the gateway's user, as the code of a drop-in has. They do not get the
gateway's environment, which holds its secrets.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

from agents import Agent
from agents.run_config import SandboxRunConfig
from agents.sandbox import SandboxAgent
from agents.sandbox.snapshot import NoopSnapshotSpec

from apps.catalog import graph

if TYPE_CHECKING:
    from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient


def is_needed(agent: Agent[Any]) -> bool:
    """Whether a run that begins with `agent` may come to a SandboxAgent."""
    return any(isinstance(one, SandboxAgent) for one in graph.reachable(agent))


def config() -> SandboxRunConfig:
    """For one run. Nothing of its folder is kept: the SDK's default would store a snapshot of each."""
    return SandboxRunConfig(client=_client(), snapshot=NoopSnapshotSpec())


def for_one_run(agent: Agent[Any]) -> Agent[Any]:
    """The SDK refuses to use the same SandboxAgent object in two runs at once."""
    return agent.clone() if isinstance(agent, SandboxAgent) else agent


@cache
def _client() -> "UnixLocalSandboxClient":
    from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient  # costs time, and few agents need it

    return UnixLocalSandboxClient(inherit_host_environment=False)
