"""Handoffs: who answers, and what the next agent gets to see."""

import pytest

from tests.acceptance.conftest import Alike, Runs


@pytest.mark.parametrize(
    ("asked", "last"),
    [
        (
            '[[tool=transfer_to_billing_agent]] [[tool=find_invoice]] [[args={}]] [[args={"number": 7}]]',
            "Billing Agent",
        ),
        ("[[tool=transfer_to_refund_agent]]", "Refund Agent"),
        ("I want my money back", "Refund Agent"),
        ("[[no-tools]]", "Triage Agent"),
    ],
)
def test_handoff_leads_to_the_agent_that_answers(alike: Alike, under_runner: Runs, asked: str, last: str) -> None:
    alike("HandoffPlain", asked, variable="triage", alone=True)

    assert under_runner("HandoffPlain", asked, variable="triage")[0].last_agent == last


def test_agent_after_a_handoff_has_its_own_tools_and_instructions(alike: Alike) -> None:
    asked = '[[tool=transfer_to_billing_agent]] [[tool=find_invoice]] [[args={}]] [[args={"number": 7}]]'

    told, calls = alike("HandoffPlain", asked, variable="triage", alone=True)

    assert [call.tool_names for call in calls[1:]] == [["find_invoice"]] * 2
    assert calls[1].system.endswith("You are billing.")
    assert "The tool find_invoice returned: Invoice 7 is paid." in told.content


TARGETS = ["forgetful", "newcomer", "stranger", "historian", "confidant"]


@pytest.mark.parametrize("target", TARGETS)
def test_handoff_filter_decides_what_the_next_agent_sees(alike: Alike, target: str) -> None:
    alike("HandoffFilters", f"Bring me the {target}")


@pytest.mark.parametrize("target", ["historian", "confidant"])
def test_handoff_after_a_tool_call_tells_of_it(alike: Alike, target: str) -> None:
    _, calls = alike("HandoffFilters", f"[[tool=roll]] [[tool=transfer_to_{target}]]")

    assert "roll" in str(calls[-1].body["messages"])


@pytest.mark.parametrize("target", TARGETS)
def test_handoff_filter_decides_about_a_conversation_too(alike: Alike, target: str) -> None:
    asked = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Good morning."},
        {"role": "user", "content": f"Bring me the {target}"},
    ]

    _, calls = alike("HandoffFilters", asked)

    assert ("My name is Ada." in str(calls[-1].body["messages"])) is (target not in ("newcomer", "stranger"))


@pytest.mark.parametrize(
    ("asked", "notes"),
    [
        ("It is on fire, I need a manager", "urgency 1: It is on fire, I need a manager"),
        ("Sales, please", "somebody wants to buy"),
    ],
)
def test_handoff_tells_the_module_why(alike: Alike, asked: str, notes: str) -> None:
    told, _ = alike("HandoffInputs", f"{asked} [[tool=read_notes]]", context="Case")

    assert f"The tool read_notes returned: {notes}" in told.content


@pytest.mark.parametrize("tool", ["call_the_doctor", "transfer_to_nurse"])
def test_handoff_has_the_name_that_it_was_given(alike: Alike, tool: str) -> None:
    _, calls = alike("HandoffNames", f"[[tool={tool}]]", variable="reception", alone=True)

    assert calls[0].tool_names == ["call_the_doctor", "transfer_to_nurse"]


def test_handoffs_may_go_round_in_a_circle(alike: Alike) -> None:
    asked = "[[tool=transfer_to_back]] [[tool=transfer_to_boss]] [[tool=transfer_to_front]]"

    _, calls = alike("HandoffCycle", asked, variable="front", alone=True)

    assert [call.system for call in calls] == [
        "You are the front desk.",
        "You are the back office.",
        "You are the boss.",
        "You are the front desk.",
    ]
