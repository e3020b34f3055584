"""Every page that the sidebar leads to, on a phone in the dark and on a desk: what holds for all of them."""

import contextlib
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page
from playwright.sync_api import TimeoutError as NeverCame

from tests.browser.conftest import NARROW, WIDE
from tests.harness import GatewayServer

# Whoever does not see the page hears the names of its fields and buttons. An icon is a ligature of a font, its letters
# name a picture: they do not count.
LOOK = """() => {
  const wrong = [];
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const start = (element) => element.outerHTML.replace(/\\s+/g, ' ').slice(0, 150);
  const isShown = (one) => one.checkVisibility({ visibilityProperty: true }) && one.getClientRects().length > 0;
  const words = (element) => {
    const copy = element.cloneNode(true);
    all('.material-symbols-outlined', copy).forEach((icon) => icon.remove());
    const described = all('img[alt], [title], [aria-label]', copy);
    return copy.textContent.trim() || described.map((one) => one.alt || one.title || one.ariaLabel).join('');
  };
  const isNamed = (one) => one.ariaLabel || one.title || one.getAttribute('aria-labelledby');
  const isLabelled = (one) => [...(one.labels ?? [])].some(words);
  for (const one of all('input:not([type=hidden], [type=submit], [type=button]), select, textarea')) {
    if (isShown(one) && !isNamed(one) && !isLabelled(one)) wrong.push(`no label: ${start(one)}`);
  }
  for (const one of all('button, a[href]')) {
    if (isShown(one) && !isNamed(one) && !words(one)) wrong.push(`no name: ${start(one)}`);
  }
  const headings = all('h1').filter((one) => one.textContent.trim());
  if (headings.length !== 1) wrong.push(`${headings.length} main headings`);
  if (!document.documentElement.lang) wrong.push('no language');
  if (!document.title.trim()) wrong.push('no title');
  if (/[{][%#]/.test(document.body.innerText)) wrong.push('words of a template');
  return wrong;
}"""
TOO_WIDE = "() => document.scrollingElement.scrollWidth - innerWidth"
HREFS = "(links) => links.map((link) => link.getAttribute('href'))"


@pytest.fixture(scope="module", autouse=True)
def _something_to_see(server: GatewayServer) -> None:
    client = server.openai()
    client.chat.completions.create(model="default/weather", messages=[{"role": "user", "content": "Is it raining?"}])
    server.wait_for_run(agent_id="default/weather")
    server.manage("audit", "--rule", "limits-absent", check=False)


@pytest.fixture
def page(open_context: Callable[..., BrowserContext]) -> Page:
    return open_context(viewport=NARROW, color_scheme="dark").new_page()


@pytest.mark.timeout(400)  # a hundred pages, each in a real browser at two widths
def test_every_page_of_the_sidebar_with_its_form_and_first_row(page: Page) -> None:
    page.goto("/admin/")
    assert page.evaluate("() => document.documentElement.classList.contains('dark')")
    paths = hrefs(page, "#nav-sidebar-apps a[href]")
    wrong, further = [], []
    for path in paths:
        wrong += faults(page, path)
        further += hrefs(page, "a[href$='/add/']")[:1] + hrefs(page, "#result_list a[href*='/change/']")[:1]
    for path in further:
        wrong += faults(page, path)

    assert not wrong, "\n".join(wrong)
    assert len(paths) > 30
    kinds = {path.split("/")[3] for path in further}
    assert {"run", "dropin", "upstream", "apikey", "finding", "errorevent", "auditrun", "declaredagent"} <= kinds


def faults(page: Page, path: str) -> list[str]:
    answer = page.goto(path)
    assert answer is not None
    page.locator("h1").first.wait_for(state="attached")  # the API's docs are written by a script
    found = [f"status {answer.status}"] if answer.status != 200 else []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        with contextlib.suppress(NeverCame):  # charts follow the width a moment later
            page.wait_for_function(f"({TOO_WIDE})() <= 0", timeout=3000)
        over = page.evaluate(TOO_WIDE)
        found += [f"{over} pixels too wide at {size['width']}"] if over > 0 else []
        found += [one for one in shortcomings(page) if one not in found]
    return [f"{path}: {one}" for one in found]


def shortcomings(page: Page) -> list[str]:
    """Those that are there still after a moment, in which scripts name what they make."""
    with contextlib.suppress(NeverCame):
        page.wait_for_function(f"() => ({LOOK})().length === 0", timeout=2000)
    wrong: list[str] = page.evaluate(LOOK)
    return wrong


def hrefs(page: Page, selector: str) -> list[str]:
    found: list[str] = page.eval_on_selector_all(selector, HREFS)
    return found
