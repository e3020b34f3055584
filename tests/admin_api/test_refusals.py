"""Errors of the operators' API have one shape, also where none of its own code answers."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.admin_api.conftest import Caller


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [("PUT", "/admin/runs", "GET"), ("DELETE", "/agents", "GET"), ("GET", "/security/preview", "POST")],
)
def test_wrong_method_is_told_which_it_takes(admin: Caller, method: str, path: str, takes: str) -> None:
    status, answer = admin.ask(method, path)

    told = f"{path} does not take {method}; it takes {takes}."
    assert status == 405
    assert answer == {
        "error": {"message": told, "type": "invalid_request_error", "param": None, "code": "method_not_allowed"}
    }


def test_console_answers_wrong_methods_itself(staff: User) -> None:
    browser = Client()
    browser.force_login(staff)
    answer = browser.get("/admin/logout/")
    assert (answer.status_code, answer.content) == (405, b"")


def test_host_name_that_is_not_the_gateways_is_told_where_to_name_it(admin: Caller) -> None:
    status, answer = admin.ask("GET", "/admin/runs", host="gateway.example")

    assert (status, answer["error"]["code"]) == (400, "unknown_host")
    assert "GATEWAY_ALLOWED_HOSTS" in answer["error"]["message"]


def test_path_that_is_none_is_not_found(admin: Caller) -> None:
    status, answer = admin.ask("GET", "/security/nothing")

    assert (status, answer["error"]["code"]) == (404, "not_found")
