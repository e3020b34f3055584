"""What the model is asked for: settings, routes, retries, reasoning, pictures, turns."""

import base64
from typing import Any

import openai
import pytest

from apps.upstreams import demo
from tests.acceptance.conftest import Alike, AskAgent, Fails, Runs
from tests.acceptance.recorder import RecordingUpstream
from tests.harness.asking import Ask

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.mark.parametrize("variable", ["sampling", "reasoning", "as_dict", "patient"])
def test_model_settings_reach_the_model(alike: Alike, variable: str) -> None:
    alike("Settings", "Hello", variable=variable)


def test_model_settings_of_every_kind_are_sent(ask_agent: AskAgent) -> None:
    _, (call,) = ask_agent("default/settings.sampling", "Hello")

    sent = {name: value for name, value in call.body.items() if name not in ("messages", "stream", "stream_options")}
    assert sent == {
        "model": "demo",
        "temperature": 0.3,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "max_tokens": 500,
        "seed": 7,
        "service_tier": "flex",
        "logit_bias": {"50256": -100},
        "stop": ["STOP"],
    }
    assert call.headers["x-of-the-module"] == "yes"
    assert call.query == "trace=1"


def test_request_may_override_the_settings_of_the_agent(ask_agent: AskAgent) -> None:
    _, (call,) = ask_agent("default/settings.sampling", "Hello", temperature=1.5)

    assert (call.body["temperature"], call.body["top_p"], call.body["seed"]) == (1.5, 0.9, 7)


def test_model_timeout_ends_the_run(client: openai.OpenAI, ask: Ask) -> None:
    with pytest.raises(openai.APIError) as caught:
        ask(client, "default/settings.hasty", "[[words=100]] [[delay=1]]")

    assert caught.value.code == "upstream_timeout"


@pytest.mark.parametrize(
    ("variable", "failures"),
    [
        ("by_status", (503, 429, 500)),
        ("own_policy", (503,)),
        ("never", ()),
    ],
)
def test_model_call_is_tried_again_as_the_module_says(
    ask_agent: AskAgent, variable: str, failures: tuple[int, ...]
) -> None:
    told, calls = ask_agent(f"default/retries.{variable}", "[[say=At last.]]", failures=failures)

    assert (told.content, len(calls)) == ("At last.", len(failures) + 1)


@pytest.mark.parametrize(
    ("variable", "tries"),
    [
        ("by_status", 4),
        ("own_policy", 2),
        ("never", 1),
    ],
)
def test_model_call_that_goes_on_failing_is_an_error(
    client: openai.OpenAI, ask: Ask, upstream: RecordingUpstream, variable: str, tries: int
) -> None:
    upstream.taken()
    upstream.fail_next(*[503] * tries)

    with pytest.raises(openai.APIError):
        ask(client, f"default/retries.{variable}", "[[say=At last.]]")

    assert len(upstream.taken()) == tries


@pytest.mark.parametrize(
    ("asked", "route"),
    [
        ("[[no-tools]] Hello", [("first", "demo")]),
        ("[[tool=transfer_to_writer]]", [("first", "demo"), ("second", "second-model")]),
    ],
)
def test_agents_are_on_the_upstreams_of_their_models(alike: Alike, asked: str, route: list[tuple[str, str]]) -> None:
    _, calls = alike("Upstreams", asked)

    assert [(call.upstream, call.model) for call in calls] == route


def test_agent_may_name_its_upstream(ask_agent: AskAgent) -> None:
    """Runner knows no such prefix."""
    _, calls = ask_agent("default/upstreams", '[[tool=proofread]] [[args={"input": "helo"}]]')

    route = [("first", "demo"), ("second", "anything-it-has"), ("first", "demo")]
    assert [(call.upstream, call.model) for call in calls] == route


@pytest.mark.parametrize(
    ("asked", "last"),
    [("Hello", "Hub"), ("A history question", "history expert"), ("A biology question", "biology expert")],
)
def test_agents_made_from_others_and_in_loops_work(alike: Alike, under_runner: Runs, asked: str, last: str) -> None:
    alike("Clones", asked)

    assert under_runner("Clones", asked)[0].last_agent == last


def test_clone_keeps_what_it_was_not_given_anew(alike: Alike) -> None:
    _, calls = alike("Clones", "[[tool=transfer_to_robot]]")

    assert (calls[1].system, calls[1].body["temperature"]) == ("Write like a robot", 0.2)


def test_reasoning_of_every_turn_is_told_apart_from_the_answer(ask_agent: AskAgent) -> None:
    asked = '[[reason=Let me think.]] [[tool=look_up]] [[args={"topic": "frogs"}]]'

    told, _ = ask_agent("default/reasoner", asked)

    assert told.reasoning == "Let me think." * 2
    assert "Let me think." not in told.content


def test_reasoning_settings_are_of_the_agent_that_thinks(alike: Alike) -> None:
    _, calls = alike("Reasoner", "[[tool=transfer_to_deep]]", variable="thinker", alone=True)

    assert [call.body.get("reasoning_effort") for call in calls] == [None, "high"]
    assert [call.body.get("verbosity") for call in calls] == [None, "low"]


CONTENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "image": (
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
    ),
    "file": (
        {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="}},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="},
    ),
    "sound": (
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}},
    ),
}


@pytest.mark.parametrize("kind", list(CONTENT))
@pytest.mark.parametrize("text", ["What is this?", "An expert for paintings, please"])
def test_media_of_the_request_reach_the_model(ask_agent: AskAgent, under_runner: Runs, kind: str, text: str) -> None:
    """Chat clients and Runner's callers word the parts differently; the model sees the same."""
    of_chat, of_sdk = CONTENT[kind]
    items = [{"role": "user", "content": [{"type": "input_text", "text": text}, of_sdk]}]
    ran, expected = under_runner("Media", items, variable="viewer")

    told, calls = ask_agent("default/media", [{"role": "user", "content": [{"type": "text", "text": text}, of_chat]}])

    assert f"with 1 {kind}." in told.content
    assert told.content == ran.content
    assert [call.body["messages"][:2] for call in calls] == [call.body["messages"][:2] for call in expected]


def test_media_are_seen_by_guardrails(ask_agent: AskAgent) -> None:
    parts = [{"type": "text", "text": "Look"}, *[CONTENT["image"][0]] * 3]

    told, calls = ask_agent("default/media", [{"role": "user", "content": parts}])

    assert (told.finish_reason, calls) == ("content_filter", [])


def test_workflow_may_show_pictures_of_its_own(alike: Alike) -> None:
    told, _ = alike("MediaWorkflow", "What is this?", variable="run_workflow")

    assert "with 1 image." in told.content


def test_run_may_take_ten_turns_and_no_more(alike: Alike, fails: Fails) -> None:
    steps = [f"[[tool=step_{number}]]" for number in range(1, 11)]

    _, calls = alike("Turns", " ".join(steps[:9]))

    assert len(calls) == 10
    fails("Turns", " ".join(steps), raised="MaxTurnsExceeded", code="max_turns")


def test_refusal_is_the_models(ask_agent: AskAgent, under_runner: Runs) -> None:
    assert under_runner("Turns", "[[no-tools]] [[refuse=No.]]")[0].error == "ModelRefusalError"

    told, _ = ask_agent("default/turns", "[[no-tools]] [[refuse=No.]]")

    assert (told.content, told.refusal, told.finish_reason) == ("", "No.", "stop")


def test_usage_is_what_the_server_counted(ask_agent: AskAgent) -> None:
    told, (call,) = ask_agent("default/settings.sampling", "Hello")

    counted = demo.completion(call.body)["usage"]
    assert told.usage == (counted["prompt_tokens"], counted["completion_tokens"])


def test_testing_model_of_the_sdk_answers_without_a_server(ask_agent: AskAgent, under_runner: Runs) -> None:
    told, calls = ask_agent("default/scriptedmodels", "How is the weather?")

    assert (told.content, calls) == ("It says: Rain in Oslo.", [])
    assert told.content == under_runner("ScriptedModels", "How is the weather?")[0].content


@pytest.mark.parametrize(
    ("variable", "content"),
    [
        ("before_a_tool", "Let me look.\n\nIt rains."),
        ("twice", "First.\n\nSecond."),
        ("nothing", ""),
        ("stops", "Let me look.\n\nRain in Oslo."),
    ],
)
def test_texts_of_a_run_are_told_in_their_order(ask_agent: AskAgent, variable: str, content: str) -> None:
    told, _ = ask_agent(f"default/scriptedtexts.{variable}", "Go")

    assert (told.content, told.finish_reason) == (content, "stop")
