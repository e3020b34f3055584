"""Models of upstreams that are offered to clients as they are, as `<upstream>/<model>`."""

from collections.abc import Iterator
from dataclasses import dataclass

from apps.upstreams.routing import Table


@dataclass(frozen=True, slots=True)
class PassThrough:
    """A model of an upstream, asked for by its own name."""

    upstream: str
    model: str

    @property
    def agent_id(self) -> str:
        return f"{self.upstream}/{self.model}"


def offered(table: Table) -> Iterator[PassThrough]:
    for target in table.targets.values():
        if target.exposes_models:
            for model in sorted(target.models):
                yield PassThrough(target.slug, model)
