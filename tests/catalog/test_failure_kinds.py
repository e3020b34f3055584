from apps.catalog.diagnostics import CODES
from apps.catalog.failure_kinds import KINDS, Kind


def test_every_diagnostic_has_a_kind_and_no_kind_is_of_a_code_that_is_gone() -> None:
    assert KINDS.keys() == CODES.keys()
    assert {KINDS[code] for code in ("syntax_error", "denied_import", "no_export", "tool_missing")} == set(Kind)
