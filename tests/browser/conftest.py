"""A real browser over the console: headless Chromium, driven by Playwright, a server process for each file.

Playwright's event loop belongs to the thread while it runs, and async tests of other files cannot begin then: so it
starts and ends with a file. Every page of every test is listened to: an error in its console, a script that fails and a
request to another host fail the test. What a test leaves wrong is photographed into test-results/.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.browser import chromium
from tests.conftest import write_source
from tests.harness import GatewayServer, Template

RESULTS = Path(__file__).resolve().parents[2] / "test-results"
PATIENCE = 20_000  # ms that something may take to appear: the machine may be busy with other tests

WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}

AGENTS = {
    "Weather": """
from agents import Agent, function_tool

@function_tool
def get_weather(city: str) -> str:
    return f"Rain in {city}."

agent = Agent(name="Weather", instructions="Use your tools.", tools=[get_weather])
""",
    "Broken": """
from agents import Agent

agent = Agent(name="Broken", instructions=undefined_name)
""",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Any:
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.failed and isinstance(page, Page) and not page.is_closed():
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{item.name}-{report.when}.png"
        page.screenshot(path=path, full_page=True)
        report.sections.append(("browser", f"At {page.url}; screenshot: {path}"))
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    if path is None:
        (pytest.fail if chromium.is_needed() else pytest.skip)(chromium.MISSING)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    """A gateway with an agent that works and one that does not; no browser, no server."""
    folder = tmp_path_factory.mktemp("browser")
    for name, source in AGENTS.items():
        write_source(folder / "agents" / name, source)
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as started:
        yield started


@pytest.fixture(scope="module")
def cookie(server: GatewayServer) -> str:
    return str(server.operator.log_in("admin"))


@dataclass
class Complaints:
    """What no page may do. A test that expects one of them takes it out."""

    address: str
    seen: list[str] = field(default_factory=list)

    def listen_to(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.seen.append(f"{page.url}: {error}"))
        page.on("request", self._request)
        page.on("websocket", lambda socket: self._address(socket.url.replace("ws", "http", 1)))

    def forget(self, about: str) -> None:
        self.seen = [one for one in self.seen if about not in one]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.seen.append(f"{message.location.get('url', '')}: {message.text}")

    def _request(self, request: Request) -> None:
        self._address(request.url)

    def _address(self, url: str) -> None:
        if not url.startswith((f"{self.address}/", "data:", "blob:")):
            self.seen.append(f"asks another host: {url}")


@pytest.fixture
def complaints(server: GatewayServer) -> Iterator[Complaints]:
    heard = Complaints(server.url)
    yield heard
    assert heard.seen == []


@pytest.fixture
def open_context(
    browser: Browser, server: GatewayServer, cookie: str, complaints: Complaints
) -> Iterator[Callable[..., BrowserContext]]:
    """Browsers without a past, of staff who are logged in unless `is_known=False`."""
    contexts = []

    def open_one(*, is_known: bool = True, **options: Any) -> BrowserContext:
        context = browser.new_context(**{"base_url": server.url, "viewport": WIDE, **options})
        context.set_default_timeout(PATIENCE)
        context.on("page", complaints.listen_to)
        if is_known:
            context.add_cookies([{"name": "sessionid", "value": cookie, "url": server.url}])
        contexts.append(context)
        return context

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_context: Callable[..., BrowserContext]) -> Page:
    return open_context().new_page()
