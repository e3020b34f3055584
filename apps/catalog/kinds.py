"""What an agent of the catalog is made of, and which model answers for it: for operators, in memory."""

from collections.abc import Iterable, Mapping
from typing import Literal

from apps.catalog import registry
from apps.catalog.declared import Declared
from apps.catalog.generations import Generation
from apps.catalog.pass_through import PassThrough
from apps.catalog.registry import Entry
from apps.catalog.run_options import namespace_default
from apps.core.errors import Unavailable
from apps.upstreams.routing import ModelRef, Preference, upstreams

Kind = Literal["drop_in", "declared", "model"]

_NOTHING = ModelRef("", "")
_Question = tuple[str, bool, Preference]


def kind_of(entry: Entry) -> Kind:
    """A folder's agent, one that an operator declared, or an upstream's model as it is."""
    match entry.serves:
        case PassThrough():
            return "model"
        case Declared():
            return "declared"
        case Generation():
            return "drop_in"
        case None:
            return "declared" if registry.declared_entries().get(entry.agent_id) is entry else "drop_in"


def models_of(entries: Iterable[Entry]) -> Mapping[str, ModelRef]:
    """By agent id, the upstream and model that its first call would go to now. Of an agent with a model of its own the
    upstream is empty; both are where nothing can answer. Each question is put once, however many agents share it."""
    known: dict[_Question, ModelRef] = {}
    return {entry.agent_id: _model_of(entry, known) for entry in entries}


def _model_of(entry: Entry, known: dict[_Question, ModelRef]) -> ModelRef:
    if isinstance(entry.serves, PassThrough):
        return ModelRef(entry.serves.upstream, entry.serves.model)
    if entry.serves is None:
        return _NOTHING
    node = entry.generation.nodes[0] if entry.generation and entry.generation.nodes else None
    if node and node.own_model:
        return ModelRef("", node.model)
    prefer = Preference(entry.options.model, namespace_default(entry.agent_id))
    question = (node.model if node else "", bool(node and node.needs), prefer)
    if question not in known:
        known[question] = _asked(*question)
    return known[question]


def _asked(model: str, responses: bool, prefer: Preference) -> ModelRef:
    try:
        route = upstreams.current().route(model or None, responses=responses, prefer=prefer)
    except Unavailable:
        return _NOTHING
    return ModelRef(route.target.slug, route.model)
