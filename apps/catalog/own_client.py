"""The default client that a module sets for the whole process, which it shares: taken back, and kept as its wish.

`set_default_openai_client`, `set_default_openai_key` and `set_default_openai_api` change variables of
`agents.models._openai_shared`, pinned by tests/catalog/test_sdk_contract.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import OpenAIProvider
from agents.models import _openai_shared
from openai import AsyncOpenAI

from apps.catalog.diagnostics import Problem, problem
from apps.catalog.surroundings import PLACEHOLDER_KEY

Defaults = Mapping[str, Any]

_NAMES = tuple(one for one in vars(_openai_shared) if one.startswith(("_default_openai", "_use_responses")))
_WHERE = ("_default_openai_client", "_default_openai_key")


@dataclass(frozen=True, slots=True)
class OwnClient:
    """What a module wants its model calls to go through: a client, or a key for OpenAI."""

    client: AsyncOpenAI | None
    key: str | None
    use_responses: bool
    use_websocket: bool

    @property
    def base_url(self) -> str:
        return str(self.client.base_url) if self.client else "OpenAI, with a key of its own"

    def provider(self) -> OpenAIProvider:
        return OpenAIProvider(
            openai_client=self.client,
            api_key=None if self.client else self.key,
            use_responses=self.use_responses,
            use_responses_websocket=self.use_websocket,
        )


def defaults() -> Defaults:
    """The SDK's defaults in force, to be compared with later ones."""
    return {name: getattr(_openai_shared, name) for name in _NAMES}


def restore(kept: Defaults) -> None:
    vars(_openai_shared).update(kept)


def wished(before: Defaults) -> OwnClient | None:
    """What was set since; None when neither a client nor a real key was."""
    now = defaults()
    client, key = (now[name] if now[name] is not before[name] else None for name in _WHERE)
    if client is None and key in (None, "", PLACEHOLDER_KEY):
        return None
    return OwnClient(
        client=client,
        key=key,
        use_responses=_openai_shared.get_use_responses_by_default(),
        use_websocket=_openai_shared.get_default_openai_responses_transport() == "websocket",
    )


def ignored(own: OwnClient, folder: Path) -> Problem:
    return problem(
        "own_default_client",
        f"The module sets a default client ({own.base_url}) for the whole process; the gateway's upstreams answer "
        "instead.",
        "To send its model calls to that client, turn on “use the module's own client” for this agent in the admin; "
        "or give the agent an OpenAIChatCompletionsModel of its own.",
        folder / "agent.py",
    )
