"""POST /v1/chat/completions without `stream`."""

import re

import openai
import pytest

from tests.harness import FaultyServer, GatewayServer
from tests.harness.asking import Told, ask_whole


def test_chat_answers_in_openais_shape(gateway: GatewayServer) -> None:
    asked = b'{"model": "default/plain", "messages": [{"role": "user", "content": "[[say=All is well.]]"}]}'

    answer = gateway.with_key("POST", "/v1/chat/completions", body=asked)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", body.pop("id"))
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": "default/plain",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "All is well.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 17,  # the demo's rule: 4 a message, and a token for every started group of 4 characters
            "completion_tokens": 3,
            "total_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_chat_runs_the_agents_tools_and_hides_their_calls(client: openai.OpenAI) -> None:
    told = ask_whole(client, "default/tools", 'What is the weather? [[tool=get_weather]] [[args={"city": "Oslo"}]]')

    assert "The tool get_weather returned: Rain in Oslo." in told.content
    assert told.finish_reason == "stop"


def test_chat_runs_several_tools_of_one_turn(client: openai.OpenAI) -> None:
    asked = '[[tool=get_weather]] [[args={"city": "Oslo"}]] [[tool=add]] [[args={"a": 2, "b": 3}]]'

    told = ask_whole(client, "default/tools", asked)

    assert [line for line in told.content.splitlines() if line.startswith("The tool")] == [
        "The tool get_weather returned: Rain in Oslo.",
        "The tool add returned: The sum is 5.",
    ]


def test_chat_follows_handoffs(client: openai.OpenAI) -> None:
    told = ask_whole(client, "default/triage", 'My invoice! [[tool=find_invoice]] [[args={"number": 7}]]')

    assert "My instructions are: “You are billing." in told.content
    assert "The tool find_invoice returned: Invoice 7 is paid." in told.content


def test_chat_runs_an_agent_as_a_tool(client: openai.OpenAI) -> None:
    told = ask_whole(client, "default/astool", "Please translate this [[tool=translate]]")

    assert "The tool translate returned: This is the built-in demo upstream" in told.content
    assert "My instructions are: “You translate.”" in told.content


@pytest.mark.parametrize("agent", ["default/nested", "default/nestedsync"])
def test_chat_routes_runs_that_a_tool_starts_itself(client: openai.OpenAI, agent: str) -> None:
    told = ask_whole(client, agent, '[[tool=research]] [[args={"topic": "frogs"}]]')

    assert "The tool research returned: inner words about frogs" in told.content


def test_chat_of_a_workflow_hides_its_classifier_and_answers(client: openai.OpenAI) -> None:
    told = ask_whole(client, "default/workflow", "[[say=Answered by the last node.]]")

    assert (told.content, told.finish_reason) == ("Answered by the last node.", "stop")


def test_chat_of_a_workflow_that_returns_nothing_answers_its_last_output(client: openai.OpenAI) -> None:
    assert ask_whole(client, "default/workflownoreturn", "[[say=The last words.]]").content == "The last words."


def test_chat_of_a_workflow_without_a_model_answers_what_it_returns(client: openai.OpenAI) -> None:
    assert ask_whole(client, "default/workflowplain", "abc") == Told("You wrote: abc", "stop", (0, 0))


def test_chat_gives_each_run_a_context_of_its_own(client: openai.OpenAI) -> None:
    asked = '[[tool=put]] [[args={"item": "tea"}]]'

    first, second = (ask_whole(client, "default/typedcontext", asked).content for _ in range(2))

    assert "The tool put returned: The basket holds 1." in first
    assert "My instructions are: “The basket holds 1 now.”" in first  # of the turn after the tool
    assert second == first


def test_chat_asks_for_instructions_that_are_a_function(client: openai.OpenAI) -> None:
    told = ask_whole(client, "default/dynamic", "Hi")

    assert "My instructions are: “Dynamic instructions of Dynamo.”" in told.content


def test_chat_answers_with_the_tools_result_when_the_agent_stops_there(client: openai.OpenAI) -> None:
    told = ask_whole(client, "default/stopontool", '[[tool=get_weather]] [[args={"city": "Oslo"}]]')

    assert (told.content, told.finish_reason) == ("Rain in Oslo.", "stop")


def test_chat_of_an_output_type_answers_its_json(client: openai.OpenAI) -> None:
    told = ask_whole(client, "default/outputtype", '[[say={"city": "Oslo", "score": 3}]]')

    assert told.content == '{"city": "Oslo", "score": 3}'


@pytest.mark.parametrize("name", ["default/plain", "DEFAULT/Plain", "plain", "Plain", "Plain Speaker"])
def test_chat_takes_every_name_of_an_agent_and_answers_with_its_id(client: openai.OpenAI, name: str) -> None:
    answer = client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])

    assert answer.model == "default/plain"


def test_chat_sends_what_the_request_asks_for_over_the_agents_own(
    client: openai.OpenAI, faulty: FaultyServer, gateway: GatewayServer
) -> None:
    client.chat.completions.create(
        model="default/maxtokens",
        messages=[{"role": "user", "content": "Hi"}],
        temperature=1.5,
        max_completion_tokens=77,
        stop=["END"],
        seed=5,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        user="somebody",
        response_format={"type": "json_object"},
        logit_bias={"50256": -100},
    )

    last = faulty.last()
    assert last["body"] == {
        "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi"}],
        "model": "ok",
        "temperature": 1.5,
        "top_p": 0.9,
        "frequency_penalty": 0.25,
        "presence_penalty": 0.5,
        "max_tokens": 77,
        "stop": ["END"],
        "seed": 5,
        "logit_bias": {"50256": -100},
        "response_format": {"type": "json_object"},
        "user": "somebody",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert gateway.key not in str(last)  # the caller's key is nobody else's business


def test_chat_ignores_the_tools_that_a_chat_ui_offers_and_says_so(client: openai.OpenAI, faulty: FaultyServer) -> None:
    tool = {"type": "function", "function": {"name": "search_chats", "parameters": {"type": "object"}}}

    raw = client.chat.completions.with_raw_response.create(
        model="faulty/ok", messages=[{"role": "user", "content": "Hi"}], tools=[tool], tool_choice="auto"
    )

    assert raw.headers["x-gateway-ignored"] == "tools"
    assert "tools" not in faulty.last()["body"]


def test_chat_with_an_empty_list_of_tools_ignores_nothing(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="default/plain", messages=[{"role": "user", "content": "Hi"}], tools=[]
    )

    assert "x-gateway-ignored" not in raw.headers
