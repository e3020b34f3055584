"""Families of samples as values: read from the registry, added up over workers, folded over labels."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

Labels = tuple[tuple[str, str], ...]

_STEPS: Final = 2.0**20  # of one: a millionth
_ADDED_UP: Final = frozenset({"counter", "histogram", "summary"})


class Rule(StrEnum):
    """What a gauge of several workers comes to. The others are sums."""

    SUM = "sum"  # each tells of its own part
    SAME = "same"  # each tells of the same thing; where they differ, the greatest
    MAX = "max"
    MIN = "min"


class Family(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`name` is without the `_total` that the samples of a counter have. `kind` is Prometheus's type."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, Labels, float]]

    @classmethod
    def of(cls, metric: Metric) -> "Family":
        samples = [(one.name, tuple(one.labels.items()), float(one.value)) for one in metric.samples]
        return cls(metric.name, metric.type, metric.documentation, samples)

    def metric(self) -> Metric:
        """As prometheus_client writes it."""
        metric = Metric(self.name, self.help, self.kind)
        metric.samples = [Sample(name, dict(labels), value) for name, labels, value in self.samples]
        return metric

    def with_samples(self, values: Mapping[tuple[str, Labels], float]) -> "Family":
        samples = [(name, labels, value) for (name, labels), value in values.items()]
        return Family(self.name, self.kind, self.help, samples)

    @property
    def outlives_its_worker(self) -> bool:
        return self.kind in _ADDED_UP


class Rules:
    """The rules of the gauges that are no plain sums, by name: whoever makes such a gauge says so here."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}

    def declare(self, rule: Rule, *names: str) -> None:
        self._rules.update(dict.fromkeys(names, rule))

    def of(self, family: Family) -> Rule:
        return Rule.SUM if family.kind in _ADDED_UP else self._rules.get(family.name, Rule.SUM)


def exact(family: Family) -> Family:
    """To the nearest 2^-20: such values add up without rounding, in whatever order. A sum that fell by its rounding
    would be a restart to Prometheus."""
    samples = [
        (name, labels, value if value.is_integer() or not math.isfinite(value) else round(value * _STEPS) / _STEPS)
        for name, labels, value in family.samples
    ]
    return Family(family.name, family.kind, family.help, samples)


def added_up(parts: Iterable[Sequence[Family]], rules: Rules) -> list[Family]:
    """The families of several workers as one, by their rules; in order of their names."""
    named: dict[str, list[Family]] = {}
    for part in parts:
        for family in part:
            named.setdefault(family.name, []).append(family)
    return [_one(of_name, rules.of(of_name[0])) for _, of_name in sorted(named.items())]


def _one(families: Sequence[Family], rule: Rule) -> Family:
    first = families[0]
    if len(families) == 1:
        return first
    values: dict[tuple[str, Labels], float] = {}
    for family in families:
        for name, labels, value in family.samples:
            key = name, labels
            values[key] = _joined(values[key], value, rule) if key in values else value
    return first.with_samples(values)


def _joined(one: float, other: float, rule: Rule) -> float:
    if rule is Rule.SUM:
        return one + other
    return min(one, other) if rule is Rule.MIN else max(one, other)


def folded(family: Family, rule: Rule, *, without: Collection[str]) -> Family:
    """Over those labels, with which there may be very many samples; of histograms, sum and count."""
    over_labels = Rule.SUM if rule is Rule.SAME else rule
    values: dict[tuple[str, Labels], float] = {}
    for name, labels, value in family.samples:
        if family.kind == "histogram" and name.endswith("_bucket"):
            continue
        key = name, tuple(pair for pair in labels if pair[0] not in without)
        values[key] = _joined(values[key], value, over_labels) if key in values else value
    return family.with_samples(values)
