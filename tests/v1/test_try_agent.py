"""Trying a declared agent on its page: a logged-in session, a real server, the events that the page reads."""

import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import DemoServer, FaultyServer, GatewayServer, Template, eventually
from tests.harness.gateway import PASSWORD

DRAFT = {"name": "desk", "title": "Desk", "instructions": "Answer {{user}}.", "stage": "draft"}


class Browser:
    """A session of the admin, with the cookies and tokens that a browser has."""

    def __init__(self, server: GatewayServer) -> None:
        self._url = server.url
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))

    def log_in(self) -> None:
        page = self.get("/admin/login/")
        (token,) = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[:1]
        given = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": token, "next": "/admin/"}
        self._opener.open(f"{self._url}/admin/login/", urllib.parse.urlencode(given).encode()).close()

    def get(self, path: str) -> str:
        with self._opener.open(f"{self._url}{path}") as response:
            return str(response.read().decode())

    def token(self) -> str:
        return next(one.value or "" for one in self._cookies if one.name == "csrftoken")

    def post(self, path: str, body: Any, *, token: str | None = None) -> Any:
        """The open response; whoever asked closes it. Errors are responses too."""
        headers = {"Content-Type": "application/json", "X-CSRFToken": self.token() if token is None else token}
        request = urllib.request.Request(f"{self._url}{path}", json.dumps(body).encode(), headers)
        try:
            return self._opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            return error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("try")
    (folder / "agents").mkdir()
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as started:
        yield started


@pytest.fixture(scope="module")
def browser(server: GatewayServer) -> Browser:
    made = Browser(server)
    made.log_in()
    return made


@pytest.fixture
def desk(server: GatewayServer) -> Iterator[int]:
    pk = server.operator.make("catalog.DeclaredAgent", **DRAFT)
    yield pk
    server.operator.remove("catalog.DeclaredAgent", pk)


def asked(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def events(browser: Browser, pk: int, text: str) -> list[tuple[str, str]]:
    with browser.post(f"/admin/declared/{pk}/try/", asked(text)) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        frames = response.read().decode().split("\n\n")[:-1]
    told = [json.loads(one.removeprefix("data: ")) for one in frames]
    return [(one["kind"], one["text"]) for one in told]


def test_draft_answers_on_its_page_and_nowhere_else(server: GatewayServer, browser: Browser, desk: int) -> None:
    told = events(browser, desk, "[[say=Good morning, everybody.]]")

    assert "".join(text for kind, text in told if kind == "text") == "Good morning, everybody."
    assert told[-1][0] == "end"
    assert re.fullmatch(r"1 model call, \d+ \+ 3 tokens\.", told[-1][1])
    assert server.with_key("POST", "/v1/chat/completions", body=_chat("default/desk")).status == 503


def _chat(model: str) -> bytes:
    return json.dumps({"model": model, **asked("Hi")}).encode()


def test_run_says_whose_session_it_was(server: GatewayServer, browser: Browser, desk: int) -> None:
    events(browser, desk, "[[say=Marked.]]")

    run = server.wait_for_run(agent_id="default/desk", key_name="console: admin", completion_tokens=1)
    assert (run["outcome"], run["key_id"], run["user_name"], run["streamed"]) == ("completed", None, "admin", True)


def test_what_was_just_saved_counts(server: GatewayServer, browser: Browser, desk: int, faulty: FaultyServer) -> None:
    server.operator.change("catalog.DeclaredAgent", desk, model="reasoning", parameters={"seed": 11})

    told = events(browser, desk, "Hi")

    assert ("reasoning", "Let me") in told
    assert faulty.last()["body"]["seed"] == 11
    assert faulty.last()["body"]["messages"][0] == {"role": "system", "content": "Answer admin."}


def test_failure_is_told_in_words(server: GatewayServer, browser: Browser, desk: int) -> None:
    server.operator.change("catalog.DeclaredAgent", desk, model="status-500")

    ((kind, words),) = events(browser, desk, "Hi")

    assert kind == "error"
    assert "faulty" in words


def test_it_streams_and_stops_when_the_page_is_left(browser: Browser, desk: int, demo: DemoServer) -> None:
    cancelled = demo.stats()["cancelled"]
    response = browser.post(f"/admin/declared/{desk}/try/", asked("[[words=1000]] [[delay=0.05]]"))
    while b"word3" not in response.readline():
        pass

    response.close()

    eventually(lambda: demo.stats()["cancelled"], cancelled + 1)


@pytest.mark.parametrize("body", [{}, [], {"messages": []}, {"messages": [{"role": "nobody"}]}, {"messages": "Hi"}])
def test_no_conversation_is_refused(browser: Browser, desk: int, body: Any) -> None:
    with browser.post(f"/admin/declared/{desk}/try/", body) as response:
        assert response.status == 400
        message = json.load(response)["error"]["message"]
    assert message == "This is no conversation: reload the page, and try again."


def test_without_the_pages_token_nothing_is_run(browser: Browser, desk: int) -> None:
    with browser.post(f"/admin/declared/{desk}/try/", asked("Hi"), token="x" * 32) as response:
        assert response.status == 403


def test_page_has_the_box(browser: Browser, desk: int) -> None:
    page = browser.get(f"/admin/catalog/declaredagent/{desk}/change/")
    assert f'data-url="/admin/declared/{desk}/try/"' in page
    assert "answers on this page only" in page
