"""From a model name to the upstream that serves it, in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog
from django.conf import settings

from apps.core import live_config
from apps.core.errors import Unavailable
from apps.core.secrets import SecretUnreadable
from apps.upstreams.models import Upstream, UpstreamModel

log = structlog.get_logger(__name__)


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


@dataclass(frozen=True, slots=True)
class Route:
    """`is_substitute` when the module asked for a model by name and gets another one."""

    target: Target
    model: str
    is_substitute: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """All enabled upstreams; `default` serves what no other is known to have."""

    targets: Mapping[str, Target]
    default: Target | None
    by_model: Mapping[str, tuple[Target, ...]]  # all that list it, the preferred one first

    def route(self, model: str | None, *, responses: bool = False) -> Route:
        """The upstream and model for a name that a module gave, or for None when it gave none.

        A name that an upstream listed goes there; `upstream/model` says it outright; anything else gets the default
        upstream's default model, so that a module written for another provider still answers. With `responses` the
        upstream has to have the Responses API; where the default one has not, the first that has it substitutes. Raises
        Unavailable when there is no upstream to ask, or no model to ask for.
        """
        found = self._named(model, responses) if model else None
        if found is None:
            return Route(*self._substitute(responses), is_substitute=bool(model))
        if responses and not found.target.speaks_responses:
            raise Unavailable(
                f"The upstream '{found.target.slug}' is not marked as having the Responses API. Mark it in the admin "
                "under Upstreams if its server has it.",
                code="needs_responses",
            )
        return found

    def _named(self, model: str, responses: bool) -> Route | None:
        if listing := self.by_model.get(model):
            capable = (target for target in listing if target.speaks_responses)
            return Route(next(capable, listing[0]) if responses else listing[0], model)
        slug, _, rest = model.partition("/")
        return Route(self.targets[slug], rest) if rest and slug in self.targets else None

    def _substitute(self, responses: bool) -> tuple[Target, str]:
        chosen: str = settings.GATEWAY_DEFAULT_MODEL
        for target in self.by_model.get(chosen, ()):
            if target.speaks_responses or not responses:
                return target, chosen
        target = self._fallback(responses)
        model = (chosen if target is self.default else "") or target.default_model or min(target.models, default="")
        if not model:
            raise Unavailable(
                f"Upstream '{target.slug}' has no default model. Choose one in the admin under Upstreams.",
                code="no_default_model",
            )
        return target, model

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
    chosen = settings.GATEWAY_DEFAULT_UPSTREAM or next((row.slug for row in rows if row.is_default), "")
    default = targets.get(chosen) or next(iter(targets.values()), None)
    by_model: dict[str, tuple[Target, ...]] = {}
    for target in sorted(targets.values(), key=lambda target: target is not default):
        for name in target.models:
            by_model[name] = (*by_model.get(name, ()), target)
    return Table(targets, default, by_model)


upstreams = live_config.section("upstreams.table", _load, reads=[Upstream, UpstreamModel])


def route(model: str | None, *, responses: bool = False) -> Route:
    """See Table.route."""
    return upstreams.current().route(model, responses=responses)
