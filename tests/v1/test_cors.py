"""Browsers that talk to /v1 themselves: exact origins, preflight without a key, and never cookies."""

import pytest

from tests.harness import GatewayServer

ALLOWED = "https://chat.example.com"  # of the shared gateway's GATEWAY_CORS_ORIGINS
CHAT = "/v1/chat/completions"


def preflight(origin: str, headers: str = "authorization,content-type") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": headers,
    }


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/default/plain"])
@pytest.mark.parametrize("origin", [ALLOWED, "http://localhost:3000"])
def test_preflight_of_a_named_origin_is_answered_without_a_key(gateway: GatewayServer, origin: str, path: str) -> None:
    answer = gateway.request("OPTIONS", path, headers=preflight(origin))

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["vary"].lower() == "origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert "POST" in answer.headers["access-control-allow-methods"].split(", ")
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    sent = {"authorization", "content-type", "x-api-key", "x-request-id", "x-stainless-lang", "x-stainless-timeout"}
    assert sent - allowed == set()


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "https://chat.example.com.evil.example",
        "http://chat.example.com",
        "https://chat.example.com:444",
        "null",
    ],
)
def test_other_origins_are_allowed_nothing(gateway: GatewayServer, origin: str) -> None:
    before = gateway.request("OPTIONS", CHAT, headers=preflight(origin))
    asked = gateway.with_key("GET", "/v1/models", Origin=origin)

    assert [name for name in (*before.headers, *asked.headers) if name.startswith("access-control-")] == []


def test_answer_to_a_named_origin_may_be_read(gateway: GatewayServer) -> None:
    answer = gateway.with_key("GET", "/v1/models", Origin=ALLOWED)

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert answer.headers["access-control-expose-headers"] == (
        "x-request-id, retry-after, "
        "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
        "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
    )


def test_error_to_a_named_origin_may_be_read_too(gateway: GatewayServer) -> None:
    answer = gateway.request("GET", "/v1/models", headers={"Origin": ALLOWED})

    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["access-control-allow-origin"] == ALLOWED


def test_stream_to_a_named_origin_may_be_read(gateway: GatewayServer) -> None:
    body = b'{"model": "plain", "messages": [{"role": "user", "content": "[[say=Hi]]"}], "stream": true}'

    answer = gateway.with_key("POST", CHAT, body=body, Origin=ALLOWED)

    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_admin_is_not_open_to_other_origins(gateway: GatewayServer) -> None:
    answer = gateway.request("GET", "/admin/login/", headers={"Origin": ALLOWED})

    assert answer.status == 200
    assert [name for name in answer.headers if name.startswith("access-control-")] == []
