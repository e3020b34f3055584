"""Every way in which a run of the SDK can end, whole and streamed (agents-sdk.md section 7)."""

import json
from typing import Any

import openai
import pytest

from tests.harness import DemoServer, GatewayServer, eventually
from tests.harness.asking import Ask, ask_streamed, ask_whole, deltas, read_stream

WEATHER = '[[tool=get_weather]] [[args={"city": "Oslo"}]]'
IN_LOG = "The gateway's log has the details"
STOPPED = "This request was stopped by the agent's guardrail 'no_secrets'."
WITHHELD = "This answer was stopped by the agent's guardrail 'no_numbers'."


def failure(client: openai.OpenAI, ask: Ask, agent: str, asked: Any, **options: Any) -> tuple[int | None, Any]:
    """The status and the error object. The status is None for an error in the stream: the run had begun."""
    with pytest.raises(openai.APIError) as caught:
        ask(client, agent, asked, **options)
    return getattr(caught.value, "status_code", None), caught.value.body


def error(message: str, code: str, kind: str = "server_error") -> dict[str, Any]:
    return {"message": message, "type": kind, "param": None, "code": code}


def test_blocking_input_guardrail_declines_and_asks_no_model(client: openai.OpenAI, ask: Ask, demo: DemoServer) -> None:
    before = demo.stats()["started"]

    told = ask(client, "default/guardblocking", "my secret")

    assert (told.content, told.finish_reason, told.usage) == (STOPPED, "content_filter", (0, 0))
    assert demo.stats()["started"] == before


def test_blocking_input_guardrail_lets_others_pass(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/guardblocking", "[[say=Nothing to hide.]]")

    assert (told.content, told.finish_reason) == ("Nothing to hide.", "stop")


def test_parallel_input_guardrail_stops_the_model_at_once(client: openai.OpenAI, ask: Ask, demo: DemoServer) -> None:
    cancelled = demo.stats()["cancelled"]

    told = ask(client, "default/guardparallel", "secret [[words=1000]] [[delay=0.05]]")  # 50 s, were it not stopped

    assert told.content.endswith(STOPPED)
    assert told.finish_reason == "content_filter"
    eventually(demo.active, 0)
    assert demo.stats()["cancelled"] == cancelled + 1


def test_output_guardrail_that_trips_shows_nothing_of_the_answer(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/guardoutput", "[[say=The code is 1234.]]")

    assert (told.content, told.finish_reason) == (WITHHELD, "content_filter")


def test_output_guardrail_that_passes_releases_the_answer(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/guardoutput", "[[say=No digits here.]]")

    assert (told.content, told.finish_reason) == ("No digits here.", "stop")


def test_tool_guardrail_that_rejects_tells_the_model(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/toolguardinput", '[[tool=get_weather]] [[args={"city": "rejected"}]]')

    assert "The tool get_weather returned: That place is not served." in told.content
    assert told.finish_reason == "stop"


@pytest.mark.parametrize(
    ("agent", "asked"),
    [
        ("default/toolguardinput", '[[tool=get_weather]] [[args={"city": "forbidden"}]]'),
        ("default/toolguardoutput", WEATHER),
    ],
)
def test_tool_guardrail_that_raises_blocks_the_run(client: openai.OpenAI, ask: Ask, agent: str, asked: str) -> None:
    status, told = failure(client, ask, agent, asked)

    expected = error(f"A tool guardrail of the agent '{agent}' stopped the run.", "tool_blocked", "permission_error")
    assert (status, told) == (403, expected)


def test_max_turns_are_told(client: openai.OpenAI, ask: Ask) -> None:
    agent = "default/workflowmaxturns"

    status, told = failure(client, ask, agent, WEATHER)

    expected = error(f"The agent '{agent}' reached its limit of turns without an answer.", "max_turns")
    assert (status, told) == (500, expected)


def test_refusal_is_the_messages_refusal(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/plain", "[[refuse=I would rather not.]]")

    assert (told.content, told.refusal, told.finish_reason) == ("", "I would rather not.", "stop")


def test_refusal_is_told_once(client: openai.OpenAI) -> None:
    chunks = read_stream(client, "default/plain", "[[refuse=I would rather not.]]")

    assert "".join(deltas(chunks, "refusal")) == "I would rather not."


def test_refusal_of_a_structured_answer_is_a_refusal_too(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/outputtype", "[[refuse=No verdict.]]")

    assert (told.content, told.refusal, told.finish_reason) == ("", "No verdict.", "stop")


def test_structured_answer_that_does_not_fit_is_an_upstream_error_when_whole(client: openai.OpenAI) -> None:
    status, told = failure(client, ask_whole, "default/outputtype", '[[say={"city": "Oslo"}]]')

    assert status == 502
    assert (told["type"], told["code"]) == ("upstream_error", "invalid_model_output")
    assert told["message"].startswith("The model's answer does not fit the agent 'default/outputtype':")


def test_structured_answer_that_does_not_fit_ends_the_stream_with_an_error(client: openai.OpenAI) -> None:
    status, told = failure(client, ask_streamed, "default/outputtype", '[[say={"city": "Oslo"}]]')

    assert (status, told["code"]) == (None, "invalid_model_output")


def test_unknown_tool_is_told_to_the_model(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/tools", "[[tool=no_such_tool]]")

    assert "The tool no_such_tool returned:" in told.content
    assert told.finish_reason == "stop"


def test_tool_arguments_that_are_not_json_are_told_to_the_model(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/tools", "[[tool=get_weather]] [[args={oops]]")

    assert "The tool get_weather returned: An error occurred while" in told.content
    assert told.finish_reason == "stop"


def test_tool_that_raises_is_told_to_the_model(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/softfailingtool", WEATHER)

    assert "The tool get_weather returned: An error occurred while running the tool." in told.content
    assert told.finish_reason == "stop"


def test_tool_whose_failure_ends_the_run_is_told_without_its_words(
    gateway: GatewayServer, client: openai.OpenAI, ask: Ask
) -> None:
    identifier = f"failing-tool-{ask.__name__}"

    status, told = failure(client, ask, "default/failingtool", WEATHER, extra_headers={"x-request-id": identifier})

    expected = error(f"A tool of the agent 'default/failingtool' failed. {IN_LOG}.", "tool_error")
    assert (status, told) == (500, expected)
    line = gateway.wait_for_log(event="run_raised", request_id=identifier)
    assert "hunter2" in json.dumps(line)  # the details are in the log


def test_tool_that_takes_too_long_is_a_time_out(client: openai.OpenAI, ask: Ask) -> None:
    status, told = failure(client, ask, "default/tooltimeout", WEATHER)

    expected = error("A tool of the agent 'default/tooltimeout' did not answer in time.", "tool_timeout")
    assert (status, told) == (504, expected)


def test_workflow_that_raises_is_told_without_its_words(client: openai.OpenAI, ask: Ask) -> None:
    status, told = failure(client, ask, "default/workflowfails", "Hi")

    message = f"The code of the agent 'default/workflowfails' failed with KeyError. {IN_LOG} under this request id."
    assert (status, told) == (500, error(message, "agent_error"))


def test_finish_reason_of_the_model_is_kept(client: openai.OpenAI, ask: Ask) -> None:
    for reason in ("length", "content_filter", "stop"):
        assert ask(client, "default/plain", f"[[words=3]] [[finish={reason}]]").finish_reason == reason


def test_finish_reason_is_length_when_max_tokens_cut_the_answer(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/plain", "[[words=100]]", max_tokens=5)

    assert (told.content, told.finish_reason) == ("word1 word2 word3 word4 word5", "length")


def test_finish_reason_length_without_any_text_is_an_empty_answer(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/plain", "[[words=0]] [[finish=length]]")

    assert (told.content, told.finish_reason) == ("", "length")


def test_structured_answer_that_was_cut_is_told_as_far_as_it_came(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/outputtype", '[[say={"city": "Oslo"}]]', max_tokens=1)

    assert (told.content, told.finish_reason) == ('{"city":', "length")


def test_content_filter_without_any_text_is_a_refusal(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/plain", "[[words=0]] [[finish=content_filter]]")

    assert told.finish_reason == "content_filter"
    assert (told.content or told.refusal or "") != ""


def test_reasoning_is_told_apart_from_the_answer(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/plain", "[[reason=First I think.]] [[say=Then I speak.]]")

    assert (told.reasoning, told.content) == ("First I think.", "Then I speak.")


def test_usage_is_of_all_turns_handoffs_and_nested_agents(
    gateway: GatewayServer, client: openai.OpenAI, ask: Ask
) -> None:
    identifier = f"usage-{ask.__name__}"
    asked = '[[tool=research]] [[args={"topic": "frogs"}]]'

    told = ask(client, "default/nested", asked, extra_headers={"x-request-id": identifier})

    run = gateway.wait_for_run(request_id=identifier)
    assert run["model_calls"] == 3  # the call of the tool, the inner run, the answer
    assert (run["prompt_tokens"], run["completion_tokens"]) == told.usage
    alone = ask(client, "default/plain", "[[say=inner words about frogs]]").usage
    assert told.usage[1] > alone[1] == 4


def test_blocked_sync_tool_keeps_nobody_else_waiting(
    gateway: GatewayServer, client: openai.OpenAI, tmp_path: Any
) -> None:
    """Six would fill asyncio's own executor on two cores."""
    streams = []
    for number in range(8):
        asked = f"[[tool=block]] [[args={json.dumps({'path': str(tmp_path / str(number))})}]]"
        messages: Any = [{"role": "user", "content": asked}]
        streams.append(client.chat.completions.create(model="default/waiting", messages=messages, stream=True))
    eventually(lambda: len(list(tmp_path.glob("*.started"))), 8)

    assert "Rain in Oslo." in ask_whole(client, "default/tools", WEATHER).content

    for number in range(8):
        (tmp_path / f"{number}.go").touch()
    for stream in streams:
        assert "The tool block returned: Unblocked." in "".join(deltas(list(stream), "content"))
