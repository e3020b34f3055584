import pytest

from apps.core.globs import matches


@pytest.mark.parametrize(
    ("value", "patterns", "fits"),
    [
        ("default/plain", ["*"], True),
        ("default/plain", ["default/plain"], True),
        ("default/plain", ["default/*"], True),
        ("default/plain", ["*/plain"], True),
        ("default/plain", ["d*/*n"], True),
        ("labs/big/planner", ["labs/*planner*"], True),  # a star crosses slashes
        ("default/plain", ["DEFAULT/Plain"], True),
        ("default/plain", ["labs/*", "*plain"], True),
        ("default/plain", ["default"], False),  # the whole value, not a part
        ("default/plain", ["plain"], False),
        ("default/plain", ["default/pla?n"], False),  # only the star is special
        ("default/plain", ["default/pl[a]in"], False),
        ("default/plain", ["default.plain"], False),
        ("default/plain", [], False),
        ("default/plain", [""], False),
        ("", [""], True),
        ("a\nb", ["a*b"], True),
        ("default/plain", ["a|default/plain"], False),
    ],
)
def test_glob_fits_whole_values(value: str, patterns: list[str], fits: bool) -> None:
    assert matches(value, patterns) is fits


@pytest.mark.timeout(10)
def test_many_stars_do_not_take_for_ever() -> None:
    """A pattern is an operator's, but the value may be anybody's."""
    assert matches("a" * 200 + "b", ["*".join("a" * 12) + "*c"]) is False
