"""Declared agents as runs see them: immutable values of the live configuration."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from apps.catalog.models import DeclaredAgent
from apps.catalog.run_options import RunOptions, run_options
from apps.core import live_config
from apps.upstreams.models import Upstream


@dataclass(frozen=True, slots=True)
class Declared:
    """One agent. `digest` is of all that decides what it does: another one is another version."""

    agent_id: str
    name: str
    description: str
    instructions: str  # a template
    tools: tuple[str, ...]  # names, and globs over names
    tool_choice: str  # auto, required, none, or a tool's name
    parallel_tool_calls: bool | None
    response_format: Mapping[str, Any] | None
    greeting: str
    icon: str
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    options: RunOptions
    stage: DeclaredAgent.Stage
    digest: str
    created: int  # unix seconds


def declared(row: DeclaredAgent) -> Declared:
    return Declared(
        agent_id=row.agent_id,
        name=row.title or row.name,
        description=row.description,
        instructions=row.instructions,
        tools=texts(row.tools),
        tool_choice=row.tool_choice,
        parallel_tool_calls=row.parallel_tool_calls,
        response_format=row.response_format if isinstance(row.response_format, dict) else None,
        greeting=row.greeting,
        icon=row.icon,
        tags=texts(row.tags),
        aliases=texts(row.aliases),
        options=run_options(row),
        stage=DeclaredAgent.Stage(row.stage),
        digest=_digest(row),
        created=int(row.created_at.timestamp()) if row.created_at else 0,
    )


def texts(value: object) -> tuple[str, ...]:
    """Of a JSON list that operators edit: its texts, without what is none."""
    return tuple(one for one in value if isinstance(one, str) and one) if isinstance(value, list) else ()


def _digest(row: DeclaredAgent) -> str:
    skipped = {"id", "created_at", "changed_at", "stage"}
    values = {field.attname: field.value_from_object(row) for field in row._meta.concrete_fields}  # noqa: SLF001
    text = json.dumps({name: value for name, value in values.items() if name not in skipped}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _load() -> Mapping[str, Declared]:
    return MappingProxyType({one.agent_id: one for one in _rows()})


def _rows() -> Iterator[Declared]:
    for row in DeclaredAgent.objects.select_related("upstream"):
        yield declared(row)


DECLARED = live_config.section("catalog.declared", _load, reads=[DeclaredAgent, Upstream])


def declared_agents() -> Mapping[str, Declared]:
    """Every declared agent by its id, drafts and disabled ones included. Reads memory only."""
    return DECLARED.current()
