"""Errors of the operators' API have one shape, also where none of its own code answers."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gateway_site.urls import api
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


@pytest.mark.parametrize(
    ("path", "param", "told"),
    [
        ("/admin/runs?agnet=a/b", "agnet", "Did you mean 'agent'?"),
        ("/admin/keys?limit=3&colour=red", "colour", "There are limit, offset, q, scope, state, team."),
        ("/upstreams?name=local", "name", "There are none."),
        ("/admin/runs?" + "x" * 500, "x" * 100, None),
    ],
)
def test_unknown_query_parameter_is_refused_and_told_the_near_one(
    admin: Caller, path: str, param: str, told: str | None
) -> None:
    status, answer = admin.ask("GET", path)

    error = answer["error"]
    assert (status, error["type"], error["param"], error["code"]) == (400, "invalid_request_error", param, None)
    assert told is None or error["message"] == f"There is no query parameter '{param}' here. {told}"


def test_unknown_query_parameter_tells_nothing_to_who_may_not_ask(admin: Caller) -> None:
    admin.headers = {}
    assert admin.ask("GET", "/admin/runs?agnet=a/b")[0] == 401


def test_each_operation_takes_the_query_parameters_that_are_described(admin: Caller) -> None:
    described = {
        path: [one["name"] for one in methods["get"]["parameters"] if one["in"] == "query"]
        for path, methods in api.get_openapi_schema()["paths"].items()
        if methods.get("get", {}).get("tags", [""])[0].startswith("Operators' API")
    }
    assert len(described) > 15
    for path, listed in described.items():
        said = f"There are {', '.join(sorted(listed))}." if listed else "There are none."
        _, answer = admin.ask("GET", f"{re.sub('{.*?}', '1', path)}?zzzzzzzz=1")
        assert answer["error"]["message"] == f"There is no query parameter 'zzzzzzzz' here. {said}", path
