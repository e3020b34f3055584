"""Bad input: each gets an error of the right class that says what is wrong, and the next request is served."""

import json
import re
from typing import Any

import openai
import pytest

from tests.harness import FaultyServer, GatewayServer, eventually
from tests.harness.asking import ask_whole

CHAT = "/v1/chat/completions"
NOT_MADE = "but no assistant message before it made that call."
SERVED = (
    "This gateway serves /v1/models, /v1/chat/completions, /v1/completions and /v1/embeddings; /docs describes them."
)
HI: list[Any] = [{"role": "user", "content": "Hi"}]


def post(gateway: GatewayServer, body: bytes | dict[str, Any]) -> Any:
    return gateway.with_key("POST", CHAT, body=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture(autouse=True)
def _next_request_is_served(client: openai.OpenAI) -> Any:
    """Whatever a test sent."""
    yield
    assert ask_whole(client, "default/plain", "[[say=Still here.]]").content == "Still here."


def bad(param: str | None, message: str, code: str | None = None) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": param, "code": code}


def chat(**members: Any) -> dict[str, Any]:
    return {"model": "default/plain", "messages": HI, **members}


TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(
            b'{"model": "default/plain", "messages": [',
            bad(
                None, "The request body is not valid JSON: Expecting value: line 1 column 41 (char 40).", "invalid_json"
            ),
            id="cut-json",
        ),
        pytest.param(
            b"",
            bad(None, "The request body must be a JSON object."),
            id="no-body",
        ),
        pytest.param(b"[]", bad(None, "The request body must be a JSON object."), id="a-list"),
        pytest.param(b'"hello"', bad(None, "The request body must be a JSON object."), id="a-string"),
        pytest.param(b"null", bad(None, "The request body must be a JSON object."), id="null"),
        pytest.param({"messages": HI}, bad("model", "Invalid 'model': Field required."), id="no-model"),
        pytest.param(
            {"model": "default/plain"}, bad("messages", "Invalid 'messages': Field required."), id="no-messages"
        ),
        pytest.param(
            chat(messages=[]),
            bad("messages", "Invalid 'messages': List should have at least 1 item after validation, not 0."),
            id="empty-messages",
        ),
        pytest.param(
            chat(messages="Hi"), bad("messages", "Invalid 'messages': should be a valid list."), id="messages-a-string"
        ),
        pytest.param(chat(model=7), bad("model", "Invalid 'model': should be a valid string."), id="model-a-number"),
        pytest.param(
            chat(temperature="hot"),
            bad("temperature", "Invalid 'temperature': should be a valid number, unable to parse string as a number."),
            id="temperature-a-word",
        ),
        pytest.param(
            chat(temperature=3),
            bad("temperature", "Invalid 'temperature': should be less than or equal to 2."),
            id="temperature-too-high",
        ),
        pytest.param(
            chat(max_tokens=0),
            bad("max_tokens", "Invalid 'max_tokens': should be greater than or equal to 1."),
            id="no-tokens",
        ),
        pytest.param(
            chat(messages=[*HI, "Hi"]),
            bad("messages[1]", "Invalid 'messages[1]': should be a valid dictionary or object to extract fields from."),
            id="message-a-string",
        ),
        pytest.param(
            chat(messages=[*HI, {"content": "Hi"}]),
            bad("messages[1].role", "Invalid 'messages[1].role': Field required."),
            id="no-role",
        ),
        pytest.param(
            chat(messages=[{"role": "wizard", "content": "Hi"}]),
            bad(
                "messages[0].role",
                "Invalid 'messages[0].role': 'wizard' is none of 'system', 'developer', 'user', 'assistant', 'tool'.",
            ),
            id="unknown-role",
        ),
        pytest.param(
            chat(messages=[{"role": "user", "content": 5}]),
            bad("messages[0].content", "Invalid 'messages[0].content': should be a valid string."),
            id="content-a-number",
        ),
        pytest.param(
            chat(messages=[{"role": "user", "content": [{"type": "hologram"}]}]),
            bad(
                "messages[0].content[0].type",
                "Invalid 'messages[0].content[0].type': 'hologram' is none of "
                "'text', 'image_url', 'input_audio', 'file'.",
            ),
            id="unknown-part",
        ),
        pytest.param(
            chat(messages=[{"role": "user", "content": [{"text": "Hi"}]}]),
            bad("messages[0].content[0].type", "Invalid 'messages[0].content[0].type': Field required."),
            id="part-without-type",
        ),
        pytest.param(
            chat(messages=[{"role": "user", "content": [{"type": "text"}]}]),
            bad("messages[0].content[0].text", "Invalid 'messages[0].content[0].text': Field required."),
            id="part-without-text",
        ),
        pytest.param(
            chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            bad(
                "messages[0].content[0].image_url.url",
                "Invalid 'messages[0].content[0].image_url.url': Field required.",
            ),
            id="image-without-url",
        ),
        pytest.param(
            chat(messages=[*HI, {"role": "tool", "tool_call_id": "call_9", "content": "42"}]),
            bad(
                "messages[1].tool_call_id",
                f"messages[1] is the result of the tool call 'call_9', {NOT_MADE}",
            ),
            id="unmatched-tool-result",
        ),
        pytest.param(
            chat(messages=[*HI, {"role": "assistant", "tool_calls": [TOOL_CALL]}, {"role": "tool", "content": "42"}]),
            bad("messages[2].tool_call_id", "Invalid 'messages[2].tool_call_id': Field required."),
            id="tool-result-without-id",
        ),
        pytest.param(
            chat(
                messages=[
                    *HI,
                    {"role": "assistant", "tool_calls": [TOOL_CALL]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "42"},
                    {"role": "tool", "tool_call_id": "call_1", "content": "43"},
                ]
            ),
            bad(
                "messages[3].tool_call_id",
                f"messages[3] is the result of the tool call 'call_1', {NOT_MADE}",
            ),
            id="tool-result-twice",
        ),
        pytest.param(
            chat(n=2),
            bad(
                "n",
                "'n' is not supported: an agent gives one answer to a request; send several requests instead.",
                "unsupported_parameter",
            ),
            id="n-2",
        ),
        pytest.param(
            chat(logprobs=True),
            bad(
                "logprobs",
                "'logprobs' is not supported: agents do not report log probabilities.",
                "unsupported_parameter",
            ),
            id="logprobs",
        ),
        pytest.param(
            chat(modalities=["text", "audio"]),
            bad("modalities", "'modalities' is not supported: agents answer in text.", "unsupported_parameter"),
            id="audio-answer",
        ),
        pytest.param(
            chat(functions=[{"name": "f"}]),
            bad(
                "functions",
                "'functions' is not supported: it was replaced by tools, and agents bring their own.",
                "unsupported_parameter",
            ),
            id="functions",
        ),
        pytest.param(
            chat(tool_choice="required", tools=[]),
            bad(
                "tool_choice",
                "'tool_choice' is not supported: agents choose among their own tools.",
                "unsupported_parameter",
            ),
            id="tool-choice",
        ),
        pytest.param(
            chat(stream="sometimes"),
            bad("stream", "Invalid 'stream': should be a valid boolean, unable to interpret input."),
            id="stream-a-word",
        ),
        pytest.param(
            chat(stream_options={"include_usage": "maybe"}, stream=True),
            bad(
                "stream_options.include_usage",
                "Invalid 'stream_options.include_usage': should be a valid boolean, unable to interpret input.",
            ),
            id="include-usage-a-word",
        ),
        pytest.param(
            b'{"model": "default/plain", "messages": [{"role": "user", "content": "half \\ud83d of it"}]}',
            bad(
                None,
                "The request body is not valid JSON: it contains half of a surrogate pair (such as a lone \\ud83d), "
                "which is no character.",
                "invalid_json",
            ),
            id="lone-surrogate",
        ),
        pytest.param(
            b'{"model": "default/plain", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
            bad(
                None,
                "The request body is not valid JSON: 'utf-8' codec can't decode byte 0xff in position 69: "
                "invalid start byte.",
                "invalid_json",
            ),
            id="not-utf-8",
        ),
        pytest.param(
            b'{"model": "default/plain", "messages": [{"role": "user", "content": "Hi"}], "temperature": Infinity}',
            bad(None, "The request body is not valid JSON: Infinity is no JSON number.", "invalid_json"),
            id="infinity",
        ),
        pytest.param(
            b'{"model": "default/plain", "messages": [{"role": "user", "content": "Hi"}], "temperature": -1e400}',
            bad(None, "The request body is not valid JSON: -1e400 is too large a number.", "invalid_json"),
            id="too-large",
        ),
        pytest.param(
            b'{"a":' + b"[" * 100_000,
            bad(None, "The request body is not valid JSON: it is nested too deeply.", "invalid_json"),
            id="nested-too-deeply",
        ),
    ],
)
def test_bad_request_is_told_what_is_wrong(gateway: GatewayServer, body: Any, error: dict[str, Any]) -> None:
    answer = post(gateway, body)

    assert (answer.status, answer.error) == (400, error)
    assert answer.headers["content-type"] == "application/json"


def test_bad_request_raises_the_official_clients_own_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="default/plain", messages=HI, n=2)

    error = caught.value
    assert (error.status_code, error.param, error.code) == (400, "n", "unsupported_parameter")


def test_bad_request_is_told_the_same_when_a_stream_was_asked_for(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="default/plain", messages=[], stream=True)

    assert caught.value.param == "messages"


def test_body_of_20_mb_is_too_large(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model="default/plain", messages=[{"role": "user", "content": "x" * 20 * 1024 * 1024}]
        )

    assert caught.value.status_code == 413
    assert caught.value.body == {
        "message": "The request body is larger than 16,777,216 bytes. "
        "Send less, such as smaller images, or raise GATEWAY_MAX_BODY_BYTES.",
        "type": "invalid_request_error",
        "param": None,
        "code": "request_too_large",
    }


def test_body_of_10_mb_is_served(client: openai.OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10 * 1024 * 1024}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "[[say=Seen.]]"}, image]}]

    assert ask_whole(client, "default/plain", messages).content == "Seen."


def test_500_messages_are_served(client: openai.OpenAI) -> None:
    turns: Any = [
        {"role": role, "content": f"{role} {number}"} for number in range(250) for role in ("user", "assistant")
    ]

    told = ask_whole(client, "default/plain", [*turns, {"role": "user", "content": "And now?"}])

    assert "I was sent 502 messages, 251 of them yours; the first was “user 0”." in told.content


def test_emoji_are_served(client: openai.OpenAI) -> None:
    assert ask_whole(client, "default/plain", "[[say=👨‍👩‍👧 🇳🇴 𝄞]]").content == "👨‍👩‍👧 🇳🇴 𝄞"


def test_escaped_surrogate_pairs_are_served(gateway: GatewayServer) -> None:
    answer = post(gateway, json.dumps(chat(messages=[{"role": "user", "content": "[[say=🇳🇴]]"}])).encode())

    assert answer.json()["choices"][0]["message"]["content"] == "🇳🇴"


def test_null_character_is_served(client: openai.OpenAI) -> None:
    assert ask_whole(client, "default/plain", "[[say=a\x00b]]").content == "a\x00b"


def test_unknown_model_is_not_found_and_names_near_ids(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="default/tringe", messages=HI)

    error = caught.value
    assert (error.param, error.code) == ("model", "model_not_found")
    assert "The model 'default/tringe' does not exist. Did you mean 'default/triage'" in error.message


def test_unknown_model_near_to_nothing_names_none(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=HI)

    assert dict(caught.value.body)["message"] == "The model 'gpt-4o' does not exist."  # type: ignore[call-overload]


def test_disabled_agent_is_unavailable_and_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="default/disabled", messages=HI)

    assert caught.value.status_code == 503
    assert caught.value.body == {
        "message": "The agent 'default/disabled' is disabled.",
        "type": "server_error",
        "param": "model",
        "code": "agent_disabled",
    }


def test_broken_agent_is_unavailable_and_says_why(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="default/broken", messages=HI)

    error = caught.value
    assert (error.status_code, error.param, error.code) == (503, "model", "agent_broken")
    assert "The agent 'default/broken' is broken:" in error.message
    assert "undefined_name" in error.message


def test_unknown_harmless_parameter_is_accepted(client: openai.OpenAI) -> None:
    told = ask_whole(
        client,
        "default/plain",
        "[[say=Fine.]]",
        extra_body={"chat_id": "7", "session": {"a": [1]}, "min_p": 0.1, "user": {"name": "Open WebUI's object"}},
        service_tier="auto",
        store=False,
    )

    assert told.content == "Fine."


def test_unknown_members_of_messages_are_accepted(client: openai.OpenAI) -> None:
    message = {"role": "user", "content": "[[say=Fine.]]", "name": "Ann", "cache_control": {"type": "ephemeral"}}

    assert ask_whole(client, "default/plain", [message]).content == "Fine."


def test_reasoning_effort_in_a_servers_own_word_is_passed_on(client: openai.OpenAI, faulty: FaultyServer) -> None:
    ask_whole(client, "faulty/ok", "Hi", extra_body={"reasoning_effort": "turbo"})

    assert faulty.last()["body"]["reasoning_effort"] == "turbo"


@pytest.mark.parametrize("n", [None, 1])
def test_one_answer_may_be_asked_for_in_words(client: openai.OpenAI, n: int | None) -> None:
    assert ask_whole(client, "default/plain", "[[say=One.]]", extra_body={"n": n}).content == "One."


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        (
            "POST",
            "/v1/moderations",
            404,
            "not_found",
            f"There is no endpoint POST /v1/moderations. {SERVED}",
        ),
        (
            "GET",
            "/v1/nothing/here",
            404,
            "not_found",
            f"There is no endpoint GET /v1/nothing/here. {SERVED}",
        ),
        ("GET", CHAT, 405, "method_not_allowed", "/v1/chat/completions does not take GET; it takes POST."),
        ("DELETE", CHAT, 405, "method_not_allowed", "/v1/chat/completions does not take DELETE; it takes POST."),
        ("POST", "/v1/models", 405, "method_not_allowed", "/v1/models does not take POST; it takes GET."),
    ],
)
def test_unknown_path_or_method_is_told_in_json(
    gateway: GatewayServer, method: str, path: str, status: int, code: str, message: str
) -> None:
    answer = gateway.with_key(method, path)

    expected = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    assert (answer.status, answer.error) == (status, expected)


def test_unknown_endpoint_of_the_official_client_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.moderations.create(input="Hi")

    assert caught.value.code == "not_found"


def test_v1_itself_is_not_found(gateway: GatewayServer) -> None:
    for path in ("/v1", "/v1/"):
        answer = gateway.with_key("GET", path)
        assert (answer.status, answer.error["code"]) == (404, "not_found")


@pytest.fixture(scope="module")
def told_key(gateway: GatewayServer) -> str:
    """Of which each refusal has its line: the log leaves some out of a key that is refused all the time."""
    key: str = gateway.operator.issue_key("Errors")["credential"]
    eventually(lambda: gateway.request("GET", "/v1/models", headers={"x-api-key": key}).status, 200)
    return key


def test_request_id_is_given_back_and_stands_in_the_log(gateway: GatewayServer, told_key: str) -> None:
    answer = gateway.with_key(
        "POST", CHAT, body=b"{", x_request_id="test-errors.1:a_b", Authorization=f"Bearer {told_key}"
    )

    assert answer.headers["x-request-id"] == "test-errors.1:a_b"
    line = gateway.wait_for_log(event="request_finished", request_id="test-errors.1:a_b")
    assert (line["method"], line["path"], line["status"]) == ("POST", CHAT, 400)


def test_error_stands_in_the_log_with_its_message(gateway: GatewayServer, told_key: str) -> None:
    body = json.dumps(chat(n=2)).encode()
    gateway.with_key("POST", CHAT, body=body, x_request_id="test-errors-n-2", Authorization=f"Bearer {told_key}")

    line = gateway.wait_for_log(event="request_finished", request_id="test-errors-n-2")
    told = "'n' is not supported: an agent gives one answer to a request; send several requests instead."
    assert (line["status"], line["error_code"], line["error"]) == (400, "unsupported_parameter", told)


@pytest.mark.parametrize("given", ["", "with blanks", "x" * 129, "injected\tfield"])
def test_request_id_that_may_not_stand_in_a_log_is_replaced(gateway: GatewayServer, given: str) -> None:
    answer = gateway.with_key("GET", "/v1/models", x_request_id=given)

    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])


def test_request_id_is_the_official_clients_attribute(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default/plain", messages=HI, extra_headers={"x-request-id": "mine-1"}
    )

    assert answer._request_id == "mine-1"
