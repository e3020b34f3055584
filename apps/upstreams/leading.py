"""Where a model's name leads, and which rule says so, for operators: what Table.route does, in words."""

from dataclasses import dataclass

from django.conf import settings

from apps.core import globs
from apps.core.errors import Unavailable
from apps.upstreams.routing import Candidate, ModelRef, Preference, Table


@dataclass(frozen=True, slots=True)
class Lead:
    """`candidates` in the order in which they are tried; without any, `problem` is what a chat would be told."""

    because: str
    candidates: tuple[Candidate, ...] = ()
    problem: str = ""


def lead(table: Table, name: str, prefer: Preference) -> Lead:
    """For a name that a module asks for, or an empty one where it names none."""
    because = _because(table, name, prefer)
    try:
        route = table.route(name or None, prefer=prefer)
    except Unavailable as error:
        return Lead(because, problem=error.message)
    return Lead(because, route.candidates)


def _because(table: Table, name: str, prefer: Preference) -> str:
    chosen, default = prefer.instead, prefer.default
    if _is_to_be_had(table, chosen):
        return "The settings of the agent choose this upstream, whatever its module asks for."
    if chosen.model and not chosen.upstream and (said := _named(table, chosen.model)):
        return f"The settings of the agent ask for {chosen.model} instead. {said}"
    if chosen:
        return (
            f"The settings of the agent choose {chosen.model or chosen.upstream}, which is not to be had. {_default()}"
        )
    if name and (said := _named(table, name)):
        return said
    nobody = f"Nothing is known of {name}. " if name else "No model is named. "
    if _is_to_be_had(table, default) or (not default.upstream and _named(table, default.model)):
        return f"{nobody}The namespace of the agent has a default of its own."
    return nobody + _default()


def _is_to_be_had(table: Table, chosen: ModelRef) -> bool:
    target = table.targets.get(chosen.upstream)
    return target is not None and bool(chosen.model or target.default_model)


def _default() -> str:
    if settings.GATEWAY_DEFAULT_MODEL:
        return "GATEWAY_DEFAULT_MODEL answers in its place."
    return "The default model of the default upstream answers in its place."


def _named(table: Table, name: str) -> str:
    """Empty where nothing is known of the name."""
    rules = [rule for rule in table.rules if rule.choices]
    if any(rule.pattern == name for rule in rules):
        return f"The route {name} is for exactly this name."
    if listing := table.by_model.get(name):
        lists = "list" if len(listing) > 1 else "lists"
        return f"{' and '.join(one.slug for one in listing)} {lists} a model of this name."
    slug, _, rest = name.partition("/")
    if rest and slug in table.targets:
        return f"The name says its upstream, {slug}, outright."
    if rule := next((one for one in rules if globs.fits(name, one.pattern)), None):
        return f"The route {rule.pattern} fits this name."
    return ""
