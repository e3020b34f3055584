"""From a model name to the upstream that serves it, in memory."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from django.conf import settings
from msgspec.structs import replace

from apps.core import globs, live_config
from apps.core.errors import Unavailable
from apps.core.remember import remember
from apps.core.secrets import SecretUnreadable
from apps.upstreams import health
from apps.upstreams.models import ModelRoute, RouteTarget, Upstream, UpstreamModel

log = structlog.get_logger(__name__)

_MOST_REMEMBERED: Final = 1000  # names that a table was asked for: modules may make them up


@dataclass(frozen=True, slots=True)
class Target:
    """What the hot path knows of an upstream. Times are in seconds."""

    slug: str
    kind: str
    base_url: str
    secret: str = field(repr=False)
    default_model: str
    models: frozenset[str]
    connect_timeout: float
    first_event_timeout: float
    silence_timeout: float
    takes_reasoning_effort: bool
    takes_verbosity: bool
    takes_strict: bool
    takes_parallel_tool_calls: bool
    takes_developer_role: bool
    takes_several_system_messages: bool
    speaks_responses: bool = False
    exposes_models: bool = False
    max_concurrency: int | None = None
    queue_size: int = 100
    queue_timeout: float = 30.0
    retries: int = 1
    cooldown: float = 15.0

    @property
    def usual_model(self) -> str:
        """What it answers with where nobody names a model; empty when nothing is known of any."""
        return self.default_model or min(self.models, default="")


class Candidate(msgspec.Struct, frozen=True):
    """One choice of a route. Those of the lowest order come first; among them weights draw lots."""

    target: Target
    model: str
    order: int = 1
    weight: int = 1


class Route(msgspec.Struct, frozen=True):
    """Where a name leads: to `model` of `target`, else to the `others`, which only a ModelRoute brings.

    `is_substitute` when the module asked for a model by name and gets another one.
    """

    target: Target
    model: str
    is_substitute: bool = False
    others: tuple[Candidate, ...] = ()
    first: Candidate | None = None  # the order and weight of `target`, where a ModelRoute gives them

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return (self.first or Candidate(self.target, self.model), *self.others)


class ModelRef(NamedTuple):
    """A model as an operator chooses it: of one upstream (its default model when `model` is empty), or by name."""

    upstream: str
    model: str

    def __bool__(self) -> bool:
        return bool(self.upstream or self.model)


_NO_MODEL = ModelRef("", "")


class Preference(NamedTuple):
    """What operators chose for an agent: a model `instead` of whatever it names, and one where it names none that an
    upstream has (its namespace's)."""

    instead: ModelRef = _NO_MODEL
    default: ModelRef = _NO_MODEL


NO_PREFERENCE = Preference()

# Of the agent that runs; set by execute(), seen by every model call of the run.
preference: ContextVar[Preference] = ContextVar("preference", default=NO_PREFERENCE)


@dataclass(frozen=True, slots=True)
class Rule:
    """A ModelRoute: `choices` have an empty model where the name that was asked for is meant."""

    pattern: str
    choices: tuple[Candidate, ...]

    def fitting(self, name: str) -> tuple[Candidate, ...]:
        return tuple(replace(one, model=one.model or name) for one in self.choices)


@dataclass(frozen=True, slots=True)
class Table:
    """All enabled upstreams; `default` serves what no other is known to have. `rules`: the most specific one first."""

    targets: Mapping[str, Target]
    default: Target | None
    by_model: Mapping[str, tuple[Target, ...]]  # all that list it, the preferred one first
    rules: tuple[Rule, ...] = ()
    default_model: str = ""  # GATEWAY_DEFAULT_MODEL
    _found: dict[tuple[Any, ...], Route] = field(default_factory=dict, init=False, compare=False, repr=False)

    def route(self, model: str | None, *, responses: bool = False, prefer: Preference = NO_PREFERENCE) -> Route:
        """The upstream and model for a name that a module gave, or for None when it gave none.

        An operator's choice for the agent replaces the name. A route for exactly that name comes first; a name that an
        upstream listed goes there; `upstream/model` says it outright; then routes with a glob. Anything else gets the
        namespace's default, else GATEWAY_DEFAULT_MODEL, else the default upstream's default model, so that a module
        written for another provider still answers. With `responses` the upstream has to have the Responses API; where
        the default one has not, the first that has it substitutes. Only a route has several choices: a model that
        several upstreams list is asked of one, because nobody said that the others may see what it is asked.
        Raises Unavailable when there is no upstream to ask, or no model to ask for.
        """
        asked = (model, responses, prefer)
        found = self._found.get(asked)
        if found is None:
            found = remember(self._found, asked, self._find(model, responses, prefer), most=_MOST_REMEMBERED)
        return found

    def _find(self, model: str | None, responses: bool, prefer: Preference) -> Route:
        chosen = prefer.instead
        found = self._chosen(chosen, responses) if chosen else self._named(model, responses) if model else None
        if found is None:
            return replace(self._default(prefer.default, responses), is_substitute=bool(chosen or model))
        if responses and not found.target.speaks_responses:
            raise Unavailable(
                f"The upstream '{found.target.slug}' is not marked as having the Responses API. Mark it in the admin "
                "under Upstreams if its server has it.",
                code="needs_responses",
            )
        return found

    def _chosen(self, ref: ModelRef, responses: bool) -> Route | None:
        """None where the upstream is switched off or has no model, or nothing has one of that name."""
        if not ref.upstream:
            return self._named(ref.model, responses)
        target = self.targets.get(ref.upstream)
        model = ref.model or (target.usual_model if target else "")
        return Route(target, model) if target and model else None

    def _named(self, model: str, responses: bool) -> Route | None:
        for rule in self.rules:
            if rule.pattern == model and (found := self._ruled(rule, model, responses)):
                return found
        if listing := self.by_model.get(model):
            capable = (target for target in listing if target.speaks_responses)
            return Route(next(capable, listing[0]) if responses else listing[0], model)
        slug, _, rest = model.partition("/")
        if rest and slug in self.targets:
            return Route(self.targets[slug], rest)
        for rule in self.rules:
            if globs.fits(model, rule.pattern) and (found := self._ruled(rule, model, responses)):
                return found
        return None

    def _ruled(self, rule: Rule, model: str, responses: bool) -> Route | None:
        choices = rule.fitting(model)
        if responses:
            choices = tuple(one for one in choices if one.target.speaks_responses) or choices
        if not choices:  # all of its upstreams are switched off
            return None
        first, *others = choices
        return Route(first.target, first.model, others=tuple(others), first=first)

    def _default(self, of_namespace: ModelRef, responses: bool) -> Route:
        """For want of a name: a default that cannot do what is needed makes way for the next."""
        chosen = self.default_model
        for ref in (of_namespace, ModelRef("", chosen)):
            found = self._chosen(ref, responses) if ref else None
            if found and (found.target.speaks_responses or not responses):
                return found
        target = self._fallback(responses)
        model = (chosen if target is self.default else "") or target.usual_model
        if not model:
            raise Unavailable(
                f"Upstream '{target.slug}' has no default model. Choose one in the admin under Upstreams.",
                code="no_default_model",
            )
        return Route(target, model)

    def _fallback(self, responses: bool) -> Target:
        if self.default is None:
            raise Unavailable(
                "No upstream is enabled. Add an LLM server in the admin under Upstreams, or enable the demo.",
                code="no_upstream",
            )
        if not responses or self.default.speaks_responses:
            return self.default
        if capable := next((target for target in self.targets.values() if target.speaks_responses), None):
            return capable
        raise Unavailable(
            "No upstream is marked as having the Responses API. Mark one that has it in the admin under Upstreams, or "
            "add OpenAI there.",
            code="needs_responses",
        )


def _target(upstream: Upstream) -> Target:
    return Target(
        slug=upstream.slug,
        kind=upstream.kind,
        base_url=upstream.base_url.rstrip("/"),
        secret=upstream.secret,
        default_model=upstream.default_model,
        models=frozenset(model.name for model in upstream.models.all()),
        connect_timeout=upstream.connect_timeout,
        first_event_timeout=upstream.first_event_timeout,
        silence_timeout=upstream.silence_timeout,
        takes_reasoning_effort=upstream.takes_reasoning_effort,
        takes_verbosity=upstream.takes_verbosity,
        takes_strict=upstream.takes_strict,
        takes_parallel_tool_calls=upstream.takes_parallel_tool_calls,
        takes_developer_role=upstream.takes_developer_role,
        takes_several_system_messages=upstream.takes_several_system_messages,
        speaks_responses=upstream.speaks_responses,
        exposes_models=upstream.exposes_models,
        max_concurrency=upstream.max_concurrency,
        queue_size=upstream.queue_size,
        queue_timeout=upstream.queue_timeout,
        retries=upstream.retries,
        cooldown=upstream.cooldown,
    )


def _readable(upstreams: Iterable[Upstream]) -> Iterable[Target]:
    for upstream in upstreams:
        try:
            yield _target(upstream)
        except SecretUnreadable as error:  # this one is out; the others serve
            log.error("upstream_secret_unreadable", upstream=upstream.slug, reason=str(error))


def _load() -> Table:
    rows = list(Upstream.objects.filter(enabled=True).prefetch_related("models"))
    targets = {target.slug: target for target in _readable(rows)}
    # Another address or secret is another server: what was known of the former one does not count against it.
    health.forget_changed({slug: hash((one.base_url, one.secret)) for slug, one in targets.items()})
    chosen = settings.GATEWAY_DEFAULT_UPSTREAM or next((row.slug for row in rows if row.is_default), "")
    default = targets.get(chosen) or next(iter(targets.values()), None)
    by_model: dict[str, tuple[Target, ...]] = {}
    for target in sorted(targets.values(), key=lambda target: target is not default):
        for name in target.models:
            by_model[name] = (*by_model.get(name, ()), target)
    return Table(targets, default, by_model, tuple(_rules(targets)), settings.GATEWAY_DEFAULT_MODEL)


def _rules(targets: Mapping[str, Target]) -> Iterable[Rule]:
    rows = ModelRoute.objects.filter(enabled=True).prefetch_related("targets__upstream")
    for row in sorted(rows, key=lambda row: globs.specificity(row.pattern), reverse=True):
        choices = [
            Candidate(targets[one.upstream.slug], one.model, one.order, one.weight)
            for one in row.targets.all()
            if one.upstream.slug in targets
        ]
        yield Rule(row.pattern, tuple(sorted(choices, key=lambda one: one.order)))


upstreams = live_config.section("upstreams.table", _load, reads=[Upstream, UpstreamModel, ModelRoute, RouteTarget])


def route(model: str | None, *, responses: bool = False) -> Route:
    """See Table.route; with the preference of the agent that runs here."""
    return upstreams.current().route(model, responses=responses, prefer=preference.get())
