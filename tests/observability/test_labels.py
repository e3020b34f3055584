from prometheus_client import Histogram

from apps.observability.labels import OTHERS, Series, Values, observer


def test_first_values_have_a_series_of_their_own() -> None:
    values = Values(most=2)

    assert [values.label(name) for name in ("a", "b", "c", "a")] == ["a", "b", OTHERS, "a"]


def test_value_is_what_utf8_can_tell_and_not_too_long() -> None:
    assert [Values().label(name) for name in ('q"\n\\', "half \ud83d", "x" * 1000)] == ['q"\n\\', "half ?", "x" * 200]


def test_series_are_made_once() -> None:
    made: list[tuple[str, ...]] = []
    series = Series(lambda *values: made.append(values) or object(), open=[0])

    assert series.of("a", "ok") is series.of("a", "ok")
    assert made == [("a", "ok")]


def test_of_too_many_series_the_rest_share_one_for_each_closed_value() -> None:
    series = Series(lambda *values: values, open=[0], most=2)

    found = [series.of(*values) for values in (("a", "ok"), ("b", "ok"), ("c", "ok"), ("d", "ok"), ("e", "error"))]

    assert found == [("a", "ok"), ("b", "ok"), (OTHERS, "ok"), (OTHERS, "ok"), (OTHERS, "error")]
    assert series.of("a", "ok") == ("a", "ok")


def test_observer_counts_as_the_histogram_does() -> None:
    observed, told = (
        Histogram(name, "Of a test.", ["who"], buckets=(1, 2, 5), registry=None) for name in ("one", "other")
    )

    observe = observer(observed, "me")
    for value in (0, 1, 1.5, 2, 5, 5.1, 100):
        observe(value)
        told.labels("me").observe(value)

    assert values(observed) == values(told)


def values(histogram: Histogram) -> list[tuple[str, str, float]]:
    (family,) = histogram.collect()
    return [(sample.name.rpartition("_")[2], sample.labels.get("le", ""), sample.value) for sample in family.samples]
