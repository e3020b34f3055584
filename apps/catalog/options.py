"""What operators decide about how an agent's module is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The fields are those of AgentSettings, which explain them. A change loads the module anew."""

    dry_run: bool = False
    build_per_run: bool = False
    own_client: bool = False


DEFAULT = LoadOptions()
