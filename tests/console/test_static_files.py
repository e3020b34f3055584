"""The assets of the console, through Django's ASGI handler as servers run it."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler

ICON = "/static/console/icon.svg"
CONTENT = (Path(__file__).parents[2] / "static/console/icon.svg").read_bytes()


@pytest.fixture(scope="module")
def handler() -> ASGIHandler:
    return ASGIHandler()


async def answer(handler: ASGIHandler, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; a warning of Django's about the answer is an error."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": ICON, "query_string": b"", "headers": sent}
    talk = ApplicationCommunicator(handler, scope)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="StreamingHttpResponse")
        await talk.send_input({"type": "http.request", "body": b""})
        start = await talk.receive_output()
        body = b""
        is_more = True
        while is_more:
            part = await talk.receive_output()
            body += part["body"]
            is_more = part.get("more_body", False)
        await talk.wait()
    return start["status"], {name.decode().lower(): value.decode() for name, value in start["headers"]}, body


async def test_file_is_answered_with_its_type_and_length_and_without_a_warning(handler: ASGIHandler) -> None:
    status, headers, body = await answer(handler)

    assert (status, body) == (200, CONTENT)
    assert (headers["content-type"], headers["content-length"]) == ("image/svg+xml", str(len(CONTENT)))


async def test_head_has_the_same_headers_and_no_body(handler: ASGIHandler) -> None:
    _, headers, _ = await answer(handler)
    status, of_head, body = await answer(handler, "HEAD")

    assert (status, body) == (200, b"")
    varying = {"x-request-id"}
    assert {name: of_head[name] for name in of_head.keys() - varying} == {
        name: headers[name] for name in headers.keys() - varying
    }


async def test_part_that_is_asked_for_is_all_that_is_sent(handler: ASGIHandler) -> None:
    status, headers, body = await answer(handler, range="bytes=2-5")

    assert (status, body) == (206, CONTENT[2:6])
    assert (headers["content-range"], headers["content-length"]) == (f"bytes 2-5/{len(CONTENT)}", "4")


async def test_what_the_browser_has_is_not_sent_again(handler: ASGIHandler) -> None:
    _, headers, _ = await answer(handler)
    status, again, body = await answer(handler, if_none_match=headers["etag"])

    assert (status, body) == (304, b"")
    assert "content-type" not in again


async def test_other_methods_are_refused(handler: ASGIHandler) -> None:
    status, headers, body = await answer(handler, "POST")

    assert (status, headers["allow"], body) == (405, "GET, HEAD", b"")
