from apps.observability.labels import OTHERS, Series, Values


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
