"""What a module hears of its runs, what its callbacks share, what it remembers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.conftest import Alike, AskAgent
from tests.acceptance.recorder import RecordingUpstream
from tests.harness import GatewayServer
from tests.harness.asking import ask_streamed, ask_whole


def test_agent_hooks_hear_every_event_of_their_agent(alike: Alike) -> None:
    tools = "[[tool=transfer_to_multiply_agent]] [[tool=multiply_by_two]] [[tool=read_journal]]"
    asked = f'{tools} [[args={{}}]] [[args={{"x": 21}}]]'

    told, _ = alike("HooksOfAgent", asked, variable="starter", context="Journal", alone=True)

    journal = told.content.partition("The tool read_journal returned: ")[2].partition("\n")[0].split(" | ")
    assert journal == [
        "Starter started Start Agent",
        "Starter asks with 'Start.' and 1 items",
        "Starter heard 1 items",
        "Starter took over from Start Agent",
        "Multiply started Multiply Agent",
        "Multiply asks with 'Multiply.' and 3 items",
        "Multiply heard 1 items",
        'Multiply calls multiply_by_two({"x": 21})',
        "Multiply got 42",
        "Multiply asks with 'Multiply.' and 5 items",
        "Multiply heard 1 items",
        "Multiply calls read_journal({})",
    ]


def test_run_hooks_of_a_workflow_hear_every_event(alike: Alike) -> None:
    asked = '[[tool=transfer_to_picker]] [[tool=random_number]] [[args={}]] [[args={"max": 250}]]'

    told, _ = alike("HooksOfRun", asked, variable="run_workflow", told_before=True)

    assert "random_number returned 249\n" in told.content


def test_run_context_is_shared_by_guardrails_tools_and_instructions(alike: Alike) -> None:
    asked = '[[tool=put]] [[args={"item": "pen"}]]'

    told, calls = alike("ContextDataclass", asked, variable="shop", context="Cart", alone=True)

    assert "The tool put returned: 1 in the cart, paid in EUR" in told.content
    assert [call.system for call in calls] == ["The cart holds [].", "The cart holds ['pen']."]


def test_run_context_is_made_anew_for_every_run(ask_agent: AskAgent) -> None:
    for _ in range(2):
        told, _ = ask_agent("default/contextdataclass", '[[tool=put]] [[args={"item": "pen"}]]')
        assert "The tool put returned: 1 in the cart" in told.content


def test_run_context_is_changed_by_a_handoffs_callback(alike: Alike) -> None:
    asked = (
        "[[tool=transfer_to_seat_booking_agent]] [[tool=update_seat]]"
        '[[args={}]] [[args={"confirmation_number": "ABC", "new_seat": "12A"}]]'
    )

    told, _ = alike("ContextPydantic", asked, variable="triage_agent", context="AirlineAgentContext", alone=True)

    assert "The tool update_seat returned: Updated seat to 12A on FLT-" in told.content


@pytest.mark.parametrize(
    ("tool", "args", "returned"),
    [("save", '{"key": "a", "value": 1}', "memory: {'a': 1}"), ("anything", "{}", "Database")],
)
def test_run_context_of_a_plain_class_is_found_by_a_tools_annotation(
    alike: Alike, tool: str, args: str, returned: str
) -> None:
    told, _ = alike("ContextPlain", f"[[tool={tool}]] [[args={args}]]", context="Database")

    assert f"The tool {tool} returned: {returned}" in told.content


def test_session_in_a_file_remembers_from_request_to_request(ask_agent: AskAgent) -> None:
    ask_agent("default/sessionsqlite", "forget")
    ask_agent("default/sessionsqlite", "My name is Ada.")

    _, calls = ask_agent("default/sessionsqlite", "Who am I?")

    said = [message["content"] for message in calls[0].body["messages"] if message["role"] == "user"]
    assert said == ["My name is Ada.", "Who am I?"]


def test_sessions_of_all_kinds_work_in_a_workflow(alike: Alike) -> None:
    told, _ = alike("SessionsOfAllKinds", "Who am I?", variable="run_workflow", told_before=True)

    assert told.content.endswith(
        "memory: 4 items, 3 in the last run\nadvanced: 4 items, 4 in the last run\n"
        "encrypted: 4 items, 4 in the last run\nown: 4 items, 4 in the last run\nturns: [1, 2], requests: 1"
    )


def test_runs_at_the_same_time_share_nothing(dropins: GatewayServer, upstream: RecordingUpstream) -> None:
    client = dropins.openai()
    upstream.taken()

    def ask(number: int) -> str:
        streamed = ask_streamed if number % 2 else ask_whole
        asked = f'[[tool=put]] [[args={{"item": "pen {number}"}}]]'
        return streamed(client, "default/contextdataclass", asked).content

    with ThreadPoolExecutor(12) as threads:
        contents = list(threads.map(ask, range(24)))

    assert all("The tool put returned: 1 in the cart" in content for content in contents)
    carts = sorted(call.system for call in upstream.taken() if "pen" in call.system)
    assert carts == sorted(f"The cart holds ['pen {number}']." for number in range(24))


def test_run_context_may_be_a_dictionary(ask_agent: AskAgent) -> None:
    told, _ = ask_agent("default/contextdict", "[[tool=count]]")

    assert "The tool count returned: {'count': 1}" in told.content


def test_run_context_that_only_main_can_build_is_none_and_named(alike: Alike, dropins: GatewayServer) -> None:
    alike("ContextRequired", "[[tool=fetch_time]]")
    alike("ContextRequired", "[[tool=fetch_user_age]]")

    (loaded,) = dropins.log(event="agent_loaded", agent="default/contextrequired")
    assert [problem.partition(":")[0] for problem in loaded["problems"]] == ["needs_context"]
