"""The live page in a real browser, while runs happen and the gateway goes away and comes back."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import AGENTS, Complaints
from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually

GATED = """
import asyncio
from pathlib import Path
from agents import Agent, function_tool

@function_tool
async def wait_for_gate() -> str:
    while not Path({gate!r}).exists():
        await asyncio.sleep(0.02)
    return "open"

agent = Agent(name="Gated", instructions="Use your tools.", tools=[wait_for_gate])
"""


@pytest.fixture(scope="module")
def server(
    browser: Browser,  # no browser, no server
    tmp_path_factory: pytest.TempPathFactory,
    template: Template,
    two_workers: Callable[[], dict[str, str]],
) -> Iterator[GatewayServer]:
    """Two workers: what one does is told on the page of the other."""
    folder = tmp_path_factory.mktemp("live")
    write_source(folder / "agents" / "Weather", AGENTS["Weather"])
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **two_workers()) as started:
        yield started


def has_everywhere(server: GatewayServer, model: str) -> bool:
    """Each client has a connection of its own, to either worker."""
    return all(model in [one.id for one in server.openai().models.list()] for _ in range(8))


@pytest.fixture
def gate(server: GatewayServer, tmp_path: Path) -> Iterator[Path]:
    """The file that the agent's tool waits for."""
    path = tmp_path / "gate"
    write_source(server.agents / "Gated", GATED.format(gate=str(path)))
    eventually(lambda: has_everywhere(server, "default/gated"), True)
    yield path
    path.touch()


def stream(server: GatewayServer, model: str, text: str, request_id: str) -> str:
    chunks = server.openai().chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        stream=True,
        extra_headers={"x-request-id": request_id},
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_run_is_watched_from_its_start_to_its_page(page: Page, server: GatewayServer, gate: Path) -> None:
    page.goto("/admin/live/")
    expect(page.locator("#live-connection-text")).to_have_text("Live")
    now, rows = page.locator("#live-now"), page.locator("#live-rows")

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stream, server, "default/gated", "Call wait_for_gate", "browser-live")
        expect(now).to_contain_text("default/gated")
        expect(page.locator("#live-now-count")).to_have_text("1 run in flight")
        gate.touch()
        assert answer.result(30)

    expect(rows).to_contain_text("wait_for_gate: ok")
    expect(rows.get_by_role("row").filter(has_text="completed, by llm/demo")).to_have_count(1)
    expect(page.locator("#live-now-none")).to_be_visible()  # a few seconds after its end

    rows.get_by_role("link", name="browser-live").first.click()
    expect(page.locator("#run-steps ~ div li").filter(has_text="wait_for_gate")).to_be_visible()


def test_filters_leave_what_fits_and_are_in_the_address(page: Page, server: GatewayServer) -> None:
    page.goto("/admin/live/")
    expect(page.locator("#live-connection-text")).to_have_text("Live")
    stream(server, "default/weather", "Call get_weather for Oslo", "browser-filter")
    rows = page.locator("#live-rows tr")
    page.get_by_label("Text, key or request id").fill("browser-filter")
    expect(rows.filter(has_text="completed")).to_have_count(1)
    page.get_by_role("button", name="Step", exact=True).click()
    expect(rows.filter(has_text="completed")).to_have_count(0)
    expect(rows.filter(has_text="get_weather: ok")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?kind=step&text=browser-filter$"))

    page.reload()
    expect(rows.filter(has_text="get_weather: ok")).to_have_count(1)
    expect(rows.filter(has_text="completed")).to_have_count(0)
    page.get_by_label("Text, key or request id").fill("no such thing")
    expect(page.get_by_text("None of the events so far fits the filters.")).to_be_visible()


def test_page_connects_again_after_a_restart(page: Page, server: GatewayServer, complaints: Complaints) -> None:
    connection = page.locator("#live-connection-text")
    page.goto("/admin/live/")
    expect(connection).to_have_text("Live")

    server.stop()
    expect(connection).to_have_text(re.compile("Connection lost"))
    server.start_again()
    expect(connection).to_have_text("Live", timeout=40_000)  # the pauses between its attempts grow

    stream(server, "default/weather", "[[say=Here.]]", "browser-again")
    expect(page.locator("#live-rows tr").filter(has_text="browser-again").filter(has_text="completed")).to_have_count(1)
    expect(page.locator("#live-advice")).to_be_hidden()
    complaints.forget("WebSocket connection to")
