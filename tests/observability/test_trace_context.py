"""Headers of W3C's Trace Context: what is taken, and what is as good as none."""

import pytest

from apps.observability.trace_context import Parent, parsed, trace_id_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-more", True),
    ],
)
def test_header_names_the_clients_span(header: str, is_sampled: bool) -> None:
    assert parsed(header) == Parent(TRACE, SPAN, is_sampled, header)
    assert trace_id_of("chatcmpl-" + "a" * 32, parsed(header)) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"{GOOD},{GOOD}",
        f"{GOOD}\n",
    ],
)
def test_header_that_is_not_as_it_should_be_is_none(header: str) -> None:
    assert parsed(header) is None
    assert trace_id_of("chatcmpl-" + "a" * 32, parsed(header)) == "a" * 32


@pytest.mark.parametrize(("state", "kept"), [("a=1,b=2", "a=1,b=2"), ("", ""), ("a=é", ""), ("a=" + "x" * 511, "")])
def test_state_is_handed_on_when_it_may_stand_in_a_header(state: str, kept: str) -> None:
    found = parsed(GOOD, state)
    assert found is not None
    assert found.state == kept
