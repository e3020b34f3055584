"""API keys at the door: both spellings, one code path, and every way in which a key does not count."""

import json
from itertools import count
from typing import Any

import openai
import pytest

from tests.harness import GatewayServer, eventually

HI: Any = [{"role": "user", "content": "[[say=Hello.]]"}]
NO_KEY = "No API key was given. Send `Authorization: Bearer KEY` or `x-api-key: KEY`."
BAD_KEY = "The API key is not valid. Issue one in the admin under API keys."
_numbers = count(1)


def error(message: str, code: str = "invalid_api_key") -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": None, "code": code}


def issue(gateway: GatewayServer, **fields: Any) -> dict[str, Any]:
    """A new key that every request already meets."""
    key: dict[str, Any] = gateway.operator.issue_key(f"test key {next(_numbers)}", **fields)
    eventually(lambda: status_of(gateway, key["credential"]) != 401, True)
    return key


def status_of(gateway: GatewayServer, credential: str) -> int:
    return gateway.request("GET", "/v1/models", headers={"x-api-key": credential}).status


@pytest.mark.parametrize("spelling", ["Authorization: Bearer {}", "authorization: bearer {}", "x-api-key: {}"])
def test_key_is_taken_in_every_spelling(gateway: GatewayServer, spelling: str) -> None:
    name, _, value = spelling.format(gateway.key).partition(": ")

    answer = gateway.request("GET", "/v1/models", headers={name: value})

    assert (answer.status, answer.json()["object"]) == (200, "list")


def test_key_in_x_api_key_counts_beside_another_kind_of_authorization(gateway: GatewayServer) -> None:
    headers = {"Authorization": "Basic dXNlcjpwYXNz", "x-api-key": gateway.key}

    assert gateway.request("GET", "/v1/models", headers=headers).status == 200


def test_bearer_key_counts_before_x_api_key(gateway: GatewayServer) -> None:
    headers = {"Authorization": "Bearer wrong", "x-api-key": gateway.key}

    assert gateway.request("GET", "/v1/models", headers=headers).error == error(BAD_KEY)


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer "}, {"x-api-key": " "}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/v1/chat/completions")])
def test_request_without_a_key_is_refused(
    gateway: GatewayServer, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = gateway.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)

    assert (answer.status, answer.error) == (401, error(NO_KEY))
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "credential",
    [
        "wrong",
        "agw_",
        "agw_tests_0123456789abcdef0123456789abcdee",
        "x" * 5000,
        "ключ".encode().decode("latin-1"),
        "a b",
    ],
)
def test_random_key_is_refused(gateway: GatewayServer, credential: str) -> None:
    answer = gateway.request("GET", "/v1/models", headers={"x-api-key": credential})

    assert (answer.status, answer.error) == (401, error(BAD_KEY))


def test_wrong_key_raises_the_official_clients_own_error(gateway: GatewayServer) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        gateway.openai("agw_wrong").chat.completions.create(model="default/plain", messages=HI)

    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")


def test_wrong_key_is_told_before_anything_about_the_body(gateway: GatewayServer) -> None:
    answer = gateway.request("POST", "/v1/chat/completions", body=b"{", headers={"x-api-key": "wrong"})

    assert (answer.status, answer.error) == (401, error(BAD_KEY))


def test_key_is_never_logged(gateway: GatewayServer) -> None:
    gateway.request("GET", "/v1/models", headers={"x-api-key": "agw_should_not_be_logged"})
    gateway.with_key("GET", "/v1/models", x_request_id="keys-1")

    gateway.wait_for_log(event="request_finished", request_id="keys-1")  # a refused one may have no line of its own
    log = "\n".join(gateway.errors)
    assert ("agw_should_not_be_logged" in log, gateway.key in log) == (False, False)


def test_issued_key_is_live_within_a_second_and_revoked_so_too(gateway: GatewayServer) -> None:
    key = gateway.operator.issue_key("soon revoked")
    eventually(lambda: status_of(gateway, key["credential"]), 200)

    gateway.operator.revoke_key(key["id"])

    eventually(lambda: status_of(gateway, key["credential"]), 401)
    answer = gateway.request("GET", "/v1/models", headers={"x-api-key": key["credential"]})
    assert answer.error == error(BAD_KEY)


def test_key_issued_by_the_command_is_printed_once_and_counts(gateway: GatewayServer) -> None:
    done = gateway.manage("issue_key", "by command", "--agents", "labs/*")

    credential = done.stdout.strip()
    eventually(lambda: status_of(gateway, credential), 200)
    assert [one.id for one in gateway.openai(credential).models.list()] == ["labs/painter", "labs/planner"]


def test_expired_key_is_refused_and_says_so(gateway: GatewayServer) -> None:
    live = issue(gateway)
    expired = gateway.operator.issue_key("expired", expires_in=-1)
    message = "The API key has expired. Issue a new one in the admin under API keys."

    def told() -> Any:
        return gateway.request("GET", "/v1/models", headers={"x-api-key": expired["credential"]}).error

    eventually(told, error(message))
    assert status_of(gateway, live["credential"]) == 200


def test_key_expires_without_any_change(gateway: GatewayServer) -> None:
    key = issue(gateway, expires_in=3)

    eventually(lambda: status_of(gateway, key["credential"]), 401, within=8)


def test_key_without_the_chat_scope_is_denied(gateway: GatewayServer) -> None:
    client = gateway.openai(issue(gateway, may_chat=False, may_administer=True)["credential"])
    expected = {
        "message": "The API key lacks the scope 'chat'.",
        "type": "permission_error",
        "code": "access_denied",
    }

    with pytest.raises(openai.PermissionDeniedError) as listing:
        client.models.list()
    with pytest.raises(openai.PermissionDeniedError) as chatting:
        client.chat.completions.create(model="default/plain", messages=HI)

    assert listing.value.body == {**expected, "param": None}
    assert chatting.value.body == {**expected, "param": "model"}


def test_key_lists_and_uses_only_the_agents_of_its_globs(gateway: GatewayServer) -> None:
    client = gateway.openai(issue(gateway, agents=["labs/*plan*", "DEFAULT/plain"])["credential"])

    assert sorted(one.id for one in client.models.list()) == ["default/plain", "labs/planner"]
    answer = client.chat.completions.create(model="labs/planner", messages=HI)
    assert answer.choices[0].message.content == "Hello."
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(model="labs/painter", messages=HI)
    assert caught.value.body == {
        "message": "The API key may not use the agent 'labs/painter'.",
        "type": "permission_error",
        "param": "model",
        "code": "access_denied",
    }


def test_key_is_not_told_the_ids_that_it_may_not_use(gateway: GatewayServer) -> None:
    client = gateway.openai(issue(gateway, agents=["labs/planner"])["credential"])

    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="labs/plainer", messages=HI)

    message = dict(caught.value.body)["message"]  # type: ignore[call-overload]
    assert message == "The model 'labs/plainer' does not exist. Did you mean 'labs/planner'?"


def test_key_of_no_agents_lists_none(gateway: GatewayServer) -> None:
    client = gateway.openai(issue(gateway, agents=[])["credential"])

    assert list(client.models.list()) == []


def test_keys_last_use_is_written_behind(gateway: GatewayServer) -> None:
    key = issue(gateway)

    eventually(lambda: gateway.operator.key_used_at(key["id"]) is not None, True)


def test_key_is_logged_by_its_id(gateway: GatewayServer) -> None:
    key = issue(gateway)
    headers = {"x-api-key": key["credential"], "x-request-id": "keys-by-id", "content-type": "application/json"}
    body = json.dumps({"model": "default/plain", "messages": HI}).encode()

    gateway.request("POST", "/v1/chat/completions", body=body, headers=headers)

    assert gateway.wait_for_log(event="run_finished", request_id="keys-by-id")["key_id"] == key["id"]
