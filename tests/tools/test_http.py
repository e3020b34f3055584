"""HTTP tools against a real server that may misbehave."""

import asyncio
import json
from typing import Any

import pytest

from apps.tools import http
from apps.tools.invoke import invoke
from apps.tools.tool import CallFailed, ToolOutput
from tests.fakes.tool_api import BIG, ToolApi
from tests.tools.conftest import http_tool, until


async def asked(api: ToolApi, path: str, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """What the server was sent."""
    output = await invoke(http_tool(f"{api.url}{path}", **fields), json.dumps(arguments or {}))
    assert output.is_error is False, output.text
    return api.seen[-1]


async def output(url: str, arguments: str = "{}", **fields: Any) -> ToolOutput:
    return await invoke(http_tool(url, **fields), arguments)


def failed(reason: str) -> ToolOutput:
    return ToolOutput(f"The tool 'asked' failed: {reason}", is_error=True)


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_arguments_without_a_place_go_into_the_query(api: ToolApi, method: str) -> None:
    seen = await asked(api, "/echo/{id}?fixed=1", {"id": "a/b", "q": "x y", "n": [1, 2]}, method=method)

    assert (seen["method"], seen["path"], seen["body"]) == (method, "/echo/a%2Fb?fixed=1&q=x%20y&n=1&n=2", "")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_arguments_without_a_place_go_into_the_body(api: ToolApi, method: str) -> None:
    seen = await asked(api, "/echo/{id}", {"id": 1, "q": "é", "n": [1, None]}, method=method)

    assert (seen["method"], seen["path"], json.loads(seen["body"])) == (method, "/echo/1", {"q": "é", "n": [1, None]})
    assert seen["headers"]["Content-Type"] == "application/json"


async def test_body_template_decides_what_is_sent(api: ToolApi) -> None:
    schema = {"type": "object", "properties": {"q": {}, "n": {}, "unused": {}}}
    body = {"search": {"text": "{q}", "limit": "{n}"}}

    seen = await asked(api, "/echo", {"q": "x", "n": 3, "unused": 1}, method="POST", body=body, schema=schema)

    assert json.loads(seen["body"]) == {"search": {"text": "x", "limit": 3}}


async def test_form_is_sent_where_the_header_says_so(api: ToolApi) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}

    seen = await asked(api, "/echo", {"a": "b c", "n": [1, 2]}, method="POST", headers=headers)

    assert seen["body"] == "a=b%20c&n=1&n=2"


async def test_headers_are_sent_with_their_secrets(api: ToolApi) -> None:
    seen = await asked(
        api, "/status/200", {"lang": "de"}, headers={"X-Lang": "{lang}"}, secret_headers={"X-Key": "{lang}-secret"}
    )

    sent = {name: seen["headers"].get(name) for name in ("X-Lang", "X-Key", "Cookie", "Accept-Encoding")}
    assert sent == {"X-Lang": "de", "X-Key": "{lang}-secret", "Cookie": None, "Accept-Encoding": "identity"}
    assert seen["path"] == "/status/200"  # the argument has its place, in the header


async def test_proxy_of_the_environment_is_not_asked(api: ToolApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert (await asked(api, "/echo"))["path"] == "/echo"


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "extract", "text"),
    [
        ("/items", "", '{"items": [{"title": "one"}, {"title": "two"}]}'),
        ("/items", "items[].title", '["one","two"]'),
        ("/items", "items[0].title", "one"),
        ("/items", "items[9].title", "The answer has nothing at 'items[9].title'."),
        ("/html", "", "(The server answered with a web page.)\n<p>Hello</p>"),
        ("/latin", "", "é"),
        ("/unknown-charset", "", "é"),
        ("/no-type", "", "plain"),
        ("/empty", "", "It succeeded (status 204); the answer is empty."),
        ("/gzip", "", '"packed"'),
        ("/deflate", "@", "packed"),
    ],
)
async def test_answer_is_given_as_text(api: ToolApi, path: str, extract: str, text: str) -> None:
    assert await output(api.url + path, extract=extract) == ToolOutput(text)


@pytest.mark.parametrize(
    ("path", "extract", "reason"),
    [
        ("/binary", "", "the answer is no text but image/png."),
        ("/no-json", "a", "the answer is no JSON, of which a part was to be taken."),
        ("/items", "sum(items)", "the answer does not fit 'sum(items)'."),
        ("/bomb", "@", "the answer is longer than 4194304 bytes. Ask for less."),
        ("/big", "@", "the answer is longer than 4194304 bytes. Ask for less."),
        ("/brotli", "", "the server compresses its answer (br), which was not asked for."),
        ("/no-gzip", "", "the server's compressed answer cannot be unpacked."),
        ("/cut", "", "127.0.0.1 closed the connection in the middle of its answer."),
        ("/status/404", "", "127.0.0.1 answered 404 Not Found: Told with nothing"),
        ("/redirect", "", "127.0.0.1 redirects to http://169.254.169.254/secret, which is not followed."),
    ],
)
async def test_failure_is_told_to_the_model(api: ToolApi, path: str, extract: str, reason: str) -> None:
    assert await output(api.url + path, extract=extract) == failed(reason)


async def test_long_answer_is_read_only_as_far_as_it_is_given(api: ToolApi) -> None:
    told = await output(f"{api.url}/big", max_output_bytes=200)

    assert (len(told.text), told.text[-49:]) == (200, "\n[Cut here: the gateway gives at most 200 bytes.]")
    assert api.written < BIG // 2


async def test_bomb_is_not_unpacked_whole(api: ToolApi) -> None:
    told = await output(f"{api.url}/bomb", max_output_bytes=300)

    assert (len(told.text), told.text.strip("0")) == (300, "\n[Cut here: the gateway gives at most 300 bytes.]")


async def test_secrets_come_back_neither_in_answers_nor_in_failures(api: ToolApi) -> None:
    secret = {"Authorization": "Bearer very-secret-token"}

    answer = await output(f"{api.url}/echo", secret_headers=secret)
    failure = await output(f"{api.url}/status/403", secret_headers=secret)

    assert json.loads(answer.text)["headers"]["Authorization"] == "•••"
    assert failure == failed("127.0.0.1 answered 403 Forbidden: Told with •••")


async def test_secret_is_masked_also_where_the_answer_is_cut(api: ToolApi) -> None:
    answer = await output(f"{api.url}/echo", secret_headers={"A": "s" * 500}, max_output_bytes=150)

    assert "sss" not in answer.text


@pytest.mark.parametrize("path", ["/hang", "/slow"])
async def test_server_that_does_not_end_is_left(api: ToolApi, path: str) -> None:
    told = await output(api.url + path, timeout=1)
    await until(lambda: api.left > 0)

    assert (told, api.left) == (failed("it did not answer within 1 s."), 1)


# --- whom it may ask -------------------------------------------------------------------------------------------------


async def test_private_host_is_refused_at_the_connection(api: ToolApi) -> None:
    port = api.url.rpartition(":")[2]
    urls = [f"http://{host}:{port}/echo" for host in ("127.0.0.1", "localhost", "0x7f.1", "0", "[::ffff:127.0.0.1]")]

    told = [await output(url, allow_private_hosts=False) for url in urls]

    assert [(one.is_error, "no public host" in one.text or "cannot be" in one.text) for one in told] == [
        (True, True)
    ] * 5
    assert api.seen == []


async def test_connection_of_a_tool_that_may_is_not_lent_to_one_that_may_not(api: ToolApi) -> None:
    http.open_sessions()
    try:
        allowed = await output(f"{api.url}/echo")
        refused = await output(f"{api.url}/echo", name="other", allow_private_hosts=False)
    finally:
        await http.close_sessions()

    assert (allowed.is_error, refused.is_error, len(api.seen)) == (False, True, 1)


async def test_connections_of_a_server_process_are_used_again(api: ToolApi) -> None:
    http.open_sessions()
    try:
        await output(f"{api.url}/echo")
        await output(f"{api.url}/echo")
        (pool,) = [one for one in http._pools[asyncio.get_running_loop()].values() if one.connector._conns]  # type: ignore[union-attr]
        assert pool.connector is not None
        assert sum(map(len, pool.connector._conns.values())) == 1
    finally:
        await http.close_sessions()


async def test_host_that_the_setting_does_not_name_is_not_asked(api: ToolApi, settings: Any) -> None:
    settings.GATEWAY_TOOL_HOSTS = ["*.example.com"]

    told = await output(f"{api.url}/echo")

    assert told == failed("the gateway may not ask 127.0.0.1: GATEWAY_TOOL_HOSTS does not name it.")
    assert api.seen == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/", "127.0.0.1 cannot be reached: nothing answers there."),
        ("http://nowhere.invalid/", "nowhere.invalid cannot be reached: its name is not known."),
        ("http://a:99999/", "its URL names no host that can be asked (Port out of range 0-65535)."),
    ],
)
async def test_host_that_cannot_be_asked_is_told(url: str, reason: str) -> None:
    assert await output(url) == failed(reason)


# --- documents -------------------------------------------------------------------------------------------------------


async def test_document_is_fetched_under_the_same_bounds(api: ToolApi) -> None:
    async def fetch(path: str, **changes: Any) -> str:
        bounds = {"most_bytes": 1000, "seconds": 30, "allow_private_hosts": True, **changes}
        return await http.fetch_text(f"{api.url}{path}", **bounds)

    assert '"openapi": "3.1.0"' in await fetch("/document")
    for path, changes, outcome in [
        ("/document", {"allow_private_hosts": False}, "refused"),
        ("/document", {"most_bytes": 10}, "too_large"),
        ("/bomb", {}, "too_large"),
        ("/redirect", {}, "http_3xx"),
        ("/status/404", {}, "http_4xx"),
        ("/hang", {"seconds": 0.2}, "timeout"),
    ]:
        with pytest.raises(CallFailed) as refused:
            await fetch(path, **changes)
        assert (path, refused.value.outcome) == (path, outcome)
