"""Exceptions → OpenAI's error answers, for what no server can be made to do from outside."""

import json
from typing import Any

import pytest
from django.test import RequestFactory

from apps.core.errors import GatewayError, Unauthenticated
from apps.openai_api.errors import error_response
from apps.upstreams.refusals import refused


def told(error: Exception) -> Any:
    return error_response(RequestFactory().get("/v1/models"), error)


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "0"), (0.2, "1"), (7.0, "7"), (None, None)])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float | None, header: str | None) -> None:
    response = told(GatewayError("Slow down.", status=429, retry_after=seconds))

    assert (response.status_code, response.headers.get("Retry-After")) == (429, header)


@pytest.mark.parametrize(
    ("given", "header"),
    [("7", "7"), ("1.5", "2"), ("-3", "0"), ("inf", None), ("nan", None), ("soon", None), ("", None), (None, None)],
)
def test_retry_after_of_an_upstream_is_handed_on_when_it_is_a_number(given: str | None, header: str | None) -> None:
    response = told(refused("Slow down.", 429, given))

    assert (response.status_code, response.headers.get("Retry-After")) == (429, header)


def test_missing_key_names_the_scheme() -> None:
    response = told(Unauthenticated("No API key was given."))

    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_unexpected_exception_says_nothing_of_itself() -> None:
    response = told(RuntimeError("the password is hunter2"))

    assert response.status_code == 500
    assert json.loads(response.content) == {
        "error": {
            "message": "The gateway itself failed. Its log has the details under this request id.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
