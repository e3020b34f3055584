"""What operators do in the console, in a real browser: with the mouse and with the keyboard."""

import re
from collections.abc import Callable

import openai
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import AGENTS
from tests.conftest import write_source
from tests.harness import DemoServer, GatewayServer, eventually
from tests.harness.gateway import PASSWORD


def listed(server: GatewayServer) -> list[str]:
    return [model.id for model in server.openai().models.list()]


def ask(client: openai.OpenAI, model: str, text: str, request_id: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], extra_headers={"x-request-id": request_id}
    )
    return answer.choices[0].message.content or ""


class TestLogin:
    @pytest.fixture
    def page(self, open_context: Callable[..., BrowserContext]) -> Page:
        """Of somebody whom the gateway does not know yet."""
        return open_context(is_known=False).new_page()

    def test_wrong_password_is_told_and_the_right_one_leads_where_one_wanted_to_go(self, page: Page) -> None:
        page.goto("/admin/live/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill("guessed")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("Please enter the correct username and password")).to_be_visible()

        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Live", exact=True, level=1)).to_be_visible()

    def test_keyboard_alone_logs_in_and_walks_the_sidebar(self, page: Page) -> None:
        page.goto("/admin/")
        tab_to(page, "username")
        page.keyboard.type("admin")
        tab_to(page, "password")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"/admin/$"))

        for name, path in (("Runs", "/admin/execution/run/"), ("Agents", "/admin/catalog/dropin/")):
            tab_to(page, name)
            assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
            page.keyboard.press("Enter")
            expect(page).to_have_url(re.compile(re.escape(path)))


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until the focus is on what is called so."""
    for _ in range(60):
        if page.evaluate(NAME_OF_FOCUS) == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached with Tab")


NAME_OF_FOCUS = """() => {
  const focus = document.activeElement;
  if (!focus) return '';
  if (focus.name) return focus.name;
  const copy = focus.cloneNode(true);
  for (const icon of copy.querySelectorAll('.material-symbols-outlined')) icon.remove();
  return copy.textContent.trim();
}"""


def test_key_that_is_issued_in_the_browser_is_used(page: Page, server: GatewayServer) -> None:
    page.goto("/admin/access/apikey/")
    page.get_by_role("link", name="Add API key").click()
    page.get_by_label("Name").fill("From the browser")
    page.get_by_role("button", name="Save", exact=True).click()

    key = page.locator("#credential").inner_text()
    # Within a second, in every worker.
    eventually(lambda: server.request("GET", "/v1/models", headers={"x-api-key": key}).status, 200)
    assert ask(server.openai(key), "default/weather", "[[say=Hello.]]", "browser-key") == "Hello."

    page.get_by_role("link", name="I have copied it").click()
    expect(page.get_by_label("Name")).to_have_value("From the browser")
    expect(page.locator("body")).not_to_contain_text(key)


def test_upstream_that_is_added_is_seen_to_answer(page: Page, server: GatewayServer, demo: DemoServer) -> None:
    page.goto("/admin/upstreams/upstream/add/")
    page.get_by_label("Name").fill("second")
    page.get_by_label("Kind").select_option("other")
    page.get_by_label("Base URL").fill(demo.base_url)
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.get_by_text(re.compile(r"\d+ models? read\."))).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="second", exact=True))
    expect(row).to_contain_text("Healthy")

    row.get_by_role("link", name="second").click()
    expect(page.locator("#health")).to_contain_text("All is well.")
    page.get_by_role("link", name="Test").click()
    page.get_by_role("dialog").get_by_role("button", name="Test").click()
    expect(page.get_by_text(re.compile(r"demo answered in \d+"))).to_be_visible()


def test_dialog_and_filters_need_no_mouse(page: Page) -> None:
    page.goto("/admin/upstreams/upstream/")
    filters = page.get_by_role("button", name="Filters")
    filters.press("Enter")
    expect(page.locator("#changelist-filter :focus")).to_be_visible()
    page.keyboard.press("Escape")
    expect(filters).to_be_focused()

    page.get_by_role("link", name="llm", exact=True).click()
    test = page.get_by_role("link", name="Test")
    test.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(":focus")).to_be_visible()
    close = dialog.get_by_role("button", name="Close")
    for _ in range(4):  # round and round
        page.keyboard.press("Tab")
        expect(dialog.locator(":focus")).to_be_visible()
    close.press("Enter")
    expect(dialog).to_be_hidden()
    expect(test).to_be_focused()


def test_broken_drop_in_is_found_on_the_dashboard_and_mended_before_ones_eyes(
    page: Page, server: GatewayServer
) -> None:
    page.goto("/admin/")
    expect(page.get_by_text("Something is down.")).to_be_visible()
    page.get_by_role("link").filter(has_text="name 'undefined_name' is not defined").first.click()

    serving = page.locator("#serving")
    expect(serving).to_contain_text("Broken")
    expect(serving).to_contain_text("agent.py:4")
    page.evaluate("() => { window.isTheSamePage = true; }")

    write_source(server.agents / "Broken", AGENTS["Weather"])
    expect(serving).to_contain_text("Live")
    expect(serving).to_contain_text("serves, for")
    expect(serving).not_to_contain_text("undefined_name")
    assert page.evaluate("() => window.isTheSamePage")
    eventually(lambda: "default/broken" in listed(server), True)

    write_source(server.agents / "Broken", AGENTS["Broken"])
    expect(serving).to_contain_text("the newest edit")
    expect(serving).to_contain_text("undefined_name")


def test_run_is_on_the_dashboard_and_its_page_shows_the_steps(page: Page, server: GatewayServer) -> None:
    ask(server.openai(), "default/weather", "Call get_weather for Oslo", "browser-steps")
    server.wait_for_run(request_id="browser-steps")

    page.goto("/admin/")
    page.get_by_role("link").filter(has_text="default/weather").filter(has_text="tokens").first.click()

    expect(page.get_by_role("code")).to_have_text("browser-steps")
    steps = page.locator("#run-steps ~ div li")
    expect(steps).to_have_text([re.compile(kind) for kind in ("Agent", "Model call", "get_weather", "Model call")])
    boxes = [step.locator(".run-bar").bounding_box() for step in steps.all()]
    assert all(box and box["width"] > 0 for box in boxes)
    lefts = [box["x"] for box in boxes if box]
    assert lefts == sorted(lefts)  # a waterfall: what began later is further right
    assert lefts[3] > lefts[1]


def test_finding_is_accepted_with_a_reason(page: Page, server: GatewayServer) -> None:
    server.manage("audit", "--rule", "limits-absent", check=False)
    page.goto("/admin/audits/finding/")
    page.get_by_role("link").filter(has_text="First key").first.click()
    page.get_by_role("link", name="Accept").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill("A key for tests only")
    dialog.get_by_role("button", name="Accept").click()

    expect(page.get_by_text(re.compile(r"Accepted until \d{4}")).first).to_be_visible()
    expect(page.get_by_text("A key for tests only").first).to_be_visible()
    page.goto("/admin/audits/finding/")
    expect(page.get_by_role("heading", name="Findings", level=1)).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="First key")).to_have_count(0)
