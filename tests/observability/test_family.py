"""Families of several workers as one."""

from itertools import permutations

from apps.observability.family import Family, Rule, Rules, added_up, exact, folded


def family(kind: str, *values: float, name: str = "m", labels: tuple[tuple[str, str], ...] = ()) -> Family:
    return Family(name, kind, "Says.", [(name, labels, value) for value in values])


def joined(rule: Rule, *values: float) -> list[float]:
    rules = Rules()
    rules.declare(rule, "m")
    (one,) = added_up([[family("gauge", value)] for value in values], rules)
    return [value for _, _, value in one.samples]


def test_gauges_are_added_up_by_their_rules() -> None:
    assert {rule: joined(rule, 3, 1, 2) for rule in Rule} == {
        Rule.SUM: [6],
        Rule.SAME: [3],
        Rule.MAX: [3],
        Rule.MIN: [1],
    }


def test_counters_are_sums_whatever_the_rules_say() -> None:
    rules = Rules()
    rules.declare(Rule.MIN, "m")

    (one,) = added_up([[family("counter", 3)], [family("counter", 4)]], rules)

    assert one.samples == [("m", (), 7.0)]


def test_samples_that_one_worker_has_alone_are_kept() -> None:
    first, second = family("counter", 3, labels=(("a", "x"),)), family("counter", 4, labels=(("a", "y"),))

    (one,) = added_up([[first], [second]], Rules())

    assert one.samples == [("m", (("a", "x"),), 3.0), ("m", (("a", "y"),), 4.0)]


def test_sums_do_not_depend_on_who_is_added_first() -> None:
    """Else a sum may fall by its rounding when a worker dies, which is a restart to Prometheus."""
    values = [0.1, 0.7, 12345.678, 1e-7, 3.3]
    parts = [[exact(family("histogram", value))] for value in values]

    sums = {added_up(order, Rules())[0].samples[0][2] for order in permutations(parts)}
    plain = {sum(order) for order in permutations(values)}

    assert (len(sums), len(plain) > 1) == (1, True)
    assert abs(sums.pop() - sum(values)) < 1e-5


def test_what_is_no_number_is_left_as_it_is() -> None:
    assert [value for _, _, value in exact(family("gauge", float("inf"), 2.0)).samples] == [float("inf"), 2.0]


def test_folding_sums_over_labels_and_drops_buckets() -> None:
    samples = [
        ("m_bucket", (("agent", "a"), ("le", "1.0")), 1.0),
        ("m_count", (("agent", "a"),), 1.0),
        ("m_count", (("agent", "b"),), 2.0),
        ("m_sum", (("agent", "a"),), 0.5),
        ("m_sum", (("agent", "b"),), 1.0),
    ]

    assert folded(Family("m", "histogram", "Says.", samples), Rule.SUM, without={"agent"}).samples == [
        ("m_count", (), 3.0),
        ("m_sum", (), 1.5),
    ]


def test_folding_keeps_extremes_and_adds_what_every_worker_tells() -> None:
    samples = [("m", (("agent", "a"),), 1.0), ("m", (("agent", "b"),), 2.0)]
    gauge = Family("m", "gauge", "Says.", samples)

    found = {rule: folded(gauge, rule, without={"agent"}).samples[0][2] for rule in Rule}

    assert found == {Rule.SUM: 3, Rule.SAME: 3, Rule.MAX: 2, Rule.MIN: 1}
