"""An agent's page: which version serves, why not a newer one, putting a former one back; last with real workers."""

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from apps.catalog.models import AgentVersion, Diagnostic, DropIn, PinnedVersion, State
from apps.core import clock
from apps.core.models import ConfigVersion
from tests.console.test_agents import LIST, agent, diagnose, version, worker
from tests.harness import GatewayServer, eventually
from tests.harness.asking import ask_whole
from tests.harness.gateway import PASSWORD

A, B, C = (letter * 64 for letter in "abc")


def serving(name: str = "weather", state: State = State.LIVE, **fields: Any) -> DropIn:
    """An agent whose version A serves and lies in the folder."""
    return agent(name, state, **{"digest": A, "disk_digest": A, "loaded_at": clock.now()} | fields)


def text_of(client: Client, row: DropIn) -> str:
    """The words that the page shows, without the settings below them."""
    html = client.get(f"{LIST}{row.pk}/serving/").content.decode()
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def buttons(client: Client, row: DropIn) -> list[str]:
    return re.findall(r'aria-label="([^"]+)"', client.get(f"{LIST}{row.pk}/serving/").content.decode())


@pytest.mark.django_db
class TestPage:
    def test_live_agent_says_since_when_its_version_serves(self, admin_client: Client) -> None:
        row = serving(loaded_at=clock.now() - timedelta(hours=2, minutes=1))
        version(row, A)
        worker({row.agent_id: A[:12]})
        worker({row.agent_id: A[:12]})
        text = text_of(admin_client, row)
        assert f"Live Version {A[:12]} serves, for 2 hours." in text
        assert f"Workers 2 of 2 workers serve {A[:12]}" in text
        assert buttons(admin_client, row) == [f"Keep version {A[:12]}"]

    def test_broken_edit_names_the_edit_and_offers_what_serves(self, admin_client: Client) -> None:
        row = serving(state=State.STALE, disk_digest=B)
        version(row, A)
        version(row, C)
        diagnose(row)
        text = text_of(admin_client, row)
        assert f"the newest edit, {B[:12]} , does not load" in text
        assert "agent.py:7" in text
        assert f"{B[:12]} In the folder, does not serve" in text
        assert buttons(admin_client, row) == [
            f"Keep version {A[:12]}", f"Put back version {C[:12]}", f"Keep version {A[:12]}",
        ]  # fmt: skip

    def test_broken_agent_is_offered_its_newest_former_version(self, admin_client: Client) -> None:
        row = serving(state=State.BROKEN, digest="", disk_digest=B, loaded_at=None)
        version(row, A, first_loaded_at=clock.now() - timedelta(days=1))
        version(row, C)
        assert f"Broken No version serves; the folder holds {B[:12]}" in text_of(admin_client, row)
        assert buttons(admin_client, row)[0] == f"Put back version {C[:12]}"

    def test_agent_that_fails_for_another_reason_than_an_edit_is_offered_no_rescue(self, admin_client: Client) -> None:
        row = serving(state=State.BROKEN, digest="", loaded_at=None)
        version(row, A)
        version(row, C)
        diagnose(row, "No upstream serves its model.")
        html = admin_client.get(f"{LIST}{row.pk}/serving/").content.decode()
        assert "put-back-rescue" not in html
        assert buttons(admin_client, row) == [f"Put back version {C[:12]}", f"Put back version {A[:12]}"]

    def test_pinned_agent_says_who_and_how_to_end_it(self, admin_client: Client, admin_user: Any) -> None:
        row = serving(disk_digest=B)
        version(row, A)
        version(row, B)
        PinnedVersion(folder_id=row.folder_id, digest=A, pinned_by=admin_user).save()
        text = text_of(admin_client, row)
        assert re.search(rf"Put back Version {A[:12]} serves: admin put it back \d+ seconds? ago\.", text)
        assert "Follow the folder again" in text
        assert buttons(admin_client, row) == [f"Put back version {B[:12]}"]

    def test_large_version_says_why_it_cannot_be_put_back(self, admin_client: Client) -> None:
        row = serving()
        version(row, A, archive=None, size=7_000_000)
        text = text_of(admin_client, row)
        assert "6.7 MB Larger than 5.0 MB, so its files are not kept: it cannot be put back." in text.replace(
            "\xa0", " "
        )
        assert buttons(admin_client, row) == []

    def test_workers_that_disagree_are_named(self, admin_client: Client) -> None:
        row = serving()
        worker({row.agent_id: A[:12]})
        worker({row.agent_id: B[:12]})
        worker({row.agent_id: C[:12]}, silent_for=40)
        text = text_of(admin_client, row)
        assert f"1 of 2 workers serves {A[:12]}" in text
        assert "last sign 40 s ago" in text
        assert text.count("Silent") == 1

    def test_nothing_known_yet_says_what_to_do(self, admin_client: Client) -> None:
        text = text_of(admin_client, serving())
        assert "Workers None answers No worker has told what it serves." in text

    def test_version_of_several_agents_is_put_back_for_all(self, admin_client: Client) -> None:
        row = serving("desk.first", folder_id="default/desk")
        serving("desk.second", folder_id="default/desk")
        Diagnostic.objects.create(
            agent_id="default/desk", code="pinned_version", severity="warning", reason="An operator did it."
        )
        text = text_of(admin_client, row)
        assert "for all that the folder publishes: default/desk.second too." in text
        assert "An operator did it." in text

    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        row = serving()
        for number in range(rows):
            version(row, str(number) * 64)
            worker({row.agent_id: A[:12]})
            diagnose(row)
        assert count_queries(lambda: admin_client.get(f"{LIST}{row.pk}/serving/")) == 10

    def test_page_asks_for_what_serves_again_and_again(self, admin_client: Client) -> None:
        row = serving()
        page = admin_client.get(f"{LIST}{row.pk}/change/").content.decode()
        assert f'hx-get="{LIST}{row.pk}/serving/"' in page

    def test_ended_session_is_refused_and_not_led_to_the_login_page(self) -> None:
        assert Client().get(f"{LIST}{serving().pk}/serving/").status_code == 403


@pytest.mark.django_db
class TestPuttingBack:
    def test_one_click_pins_and_one_ends_it(self, admin_client: Client, admin_user: Any) -> None:
        row = serving(disk_digest=B)
        version(row, A)
        before = ConfigVersion.current()
        page = admin_client.post(f"{LIST}{row.pk}/put-back/", {"digest": A}, follow=True).content.decode()
        assert f"Version {A[:12]} serves in all workers within about a second." in page
        pin = PinnedVersion.objects.get()
        assert (pin.folder_id, pin.digest, pin.pinned_by) == (row.folder_id, A, admin_user)
        assert ConfigVersion.current() > before

        page = admin_client.post(f"{LIST}{row.pk}/follow/", follow=True).content.decode()
        assert "What lies in the folder serves in all workers within about a second." in page
        assert not PinnedVersion.objects.exists()
        assert "It follows its folder already." in admin_client.post(
            f"{LIST}{row.pk}/follow/", follow=True
        ).content.decode()  # fmt: skip
        assert [one.change_message for one in LogEntry.objects.order_by("pk")] == [
            f"Version {A[:12]} put back.", "Follows its folder again.",
        ]  # fmt: skip

    @pytest.mark.parametrize("digest", [B, "", "../../etc"])
    def test_version_that_is_not_kept_is_refused(self, admin_client: Client, digest: str) -> None:
        row = serving()
        version(row, B, archive=None)
        page = admin_client.post(f"{LIST}{row.pk}/put-back/", {"digest": digest}, follow=True).content.decode()
        assert "is not kept. Choose one that is listed." in page
        assert not PinnedVersion.objects.exists()

    def test_needs_the_permission_to_change_and_a_post(self, admin_client: Client, django_user_model: Any) -> None:
        row = serving(disk_digest=B)
        version(row, A)
        version(row, B)
        PinnedVersion(folder_id=row.folder_id, digest=A).save()
        reader = django_user_model.objects.create_user("reader", password="x", is_staff=True)
        reader.user_permissions.add(Permission.objects.get(codename="view_dropin"))
        client = Client()
        client.force_login(reader)
        for verb in ("put-back", "follow"):
            assert client.post(f"{LIST}{row.pk}/{verb}/", {"digest": A}).status_code == 403
            assert admin_client.get(f"{LIST}{row.pk}/{verb}/").status_code == 405
        assert buttons(client, row) == []
        assert "Follow the folder again" not in text_of(client, row)

    def test_deleting_what_is_gone_forgets_its_versions(self, admin_client: Client) -> None:
        gone = serving("gone", State.GONE, digest="", disk_digest="")
        version(gone, A)
        PinnedVersion(folder_id=gone.folder_id, digest=A).save()
        assert buttons(admin_client, gone) == [f"Restore version {A[:12]}"]
        admin_client.post(f"{LIST}{gone.pk}/delete/", {"post": "yes"})
        assert not AgentVersion.objects.exists()
        assert not PinnedVersion.objects.exists()


# --- a real gateway with two workers, a browser's requests, a chat ---------------------------------------------------

ID = "default/weather"
SOURCE = "from agents import Agent\nagent = Agent(name='Weather', instructions='Say {word}.')\n"
LIVE_WITHIN = 15.0  # seconds; the promise is 2, on a machine that does nothing else


class Browser:
    """An operator's session in the admin of a running gateway."""

    def __init__(self, pair: GatewayServer) -> None:
        self._http = httpx2.Client(base_url=pair.url, follow_redirects=True, timeout=30)
        self.post("/admin/login/", username="admin", password=PASSWORD, next="/admin/")

    def post(self, path: str, **form: str) -> str:
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', self._http.get("/admin/login/").text)
        token = token or [self._http.cookies["csrftoken"]]
        return self._http.post(path, data={"csrfmiddlewaretoken": token[0], **form}).text

    def get(self, path: str) -> str:
        return self._http.get(path).text

    def page_of(self, agent_id: str) -> str:
        (pk,) = set(re.findall(rf"{LIST}(\d+)/change/", self._http.get(LIST, params={"q": agent_id}).text))
        return f"{LIST}{pk}/"

    def html(self, page: str) -> str:
        return self._http.get(f"{page}serving/").text

    def words(self, page: str) -> str:
        return " ".join(re.sub(r"<[^>]+>", " ", self.html(page)).split())

    def put_back(self, page: str, short: str) -> str:
        (digest,) = set(re.findall(rf'name="digest" value="({short}\w+)"', self.html(page)))
        return self.post(f"{page}put-back/", digest=digest)

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def pair(start_gateway: Callable[..., GatewayServer], two_workers: Callable[[], dict[str, str]]) -> GatewayServer:
    return start_gateway({"Weather": SOURCE.format(word="one")}, **two_workers())


@pytest.fixture
def browser(pair: GatewayServer) -> Iterator[Browser]:
    browser = Browser(pair)
    yield browser
    browser.close()


def edit(pair: GatewayServer, text: str) -> None:
    (pair.agents / "Weather" / "agent.py").write_text(text)


def agreed(browser: Browser, page: str) -> str:
    """The short version that both workers serve, or "" while they do not agree."""
    found = re.search(r"2 of 2 workers serve ([0-9a-f]{12})", browser.words(page))
    return found[1] if found else ""


def said(pair: GatewayServer) -> set[str]:
    """What the instructions are in several chats, each on a connection of its own: both workers get some."""
    words = set()
    for _ in range(6):
        with pair.openai() as client:
            answer = ask_whole(client, ID, "Hello.")
        words |= set(re.findall(r"Say (\w+)\.", answer.content))
    return words


def test_former_version_is_put_back_and_the_folder_followed_again(pair: GatewayServer, browser: Browser) -> None:
    page = browser.page_of(ID)
    eventually(lambda: bool(agreed(browser, page)), True, within=30)  # the second worker starts later
    one = agreed(browser, page)
    edit(pair, SOURCE.format(word="two"))
    eventually(lambda: agreed(browser, page) not in ("", one), True, within=LIVE_WITHIN)
    assert said(pair) == {"two"}

    assert f"Version {one} serves in all workers within about a second." in browser.put_back(page, one)
    eventually(lambda: agreed(browser, page), one, within=LIVE_WITHIN)
    assert said(pair) == {"one"}
    (listed,) = (model for model in pair.openai().models.list() if model.id == ID)
    assert listed.info["meta"]["version"] == one  # type: ignore[attr-defined]

    edit(pair, SOURCE.format(word="three"))
    eventually(lambda: "what lies in the folder, version" in browser.words(page), True)
    assert said(pair) == {"one"}

    browser.post(f"{page}follow/")
    eventually(lambda: agreed(browser, page) not in ("", one), True, within=LIVE_WITHIN)
    assert said(pair) == {"three"}


def test_folder_that_was_removed_is_restored(pair: GatewayServer, browser: Browser) -> None:
    page = browser.page_of(ID)
    eventually(lambda: bool(agreed(browser, page)), True, within=30)  # the second worker starts later
    one = agreed(browser, page)
    eventually(lambda: f"Keep version {one}" in browser.html(page), True)
    shutil.rmtree(pair.agents / "Weather")
    eventually(lambda: f"Restore version {one}" in browser.html(page), True)

    assert f"is restored with version {one}, and serves in a moment." in browser.put_back(page, one)

    eventually(lambda: agreed(browser, page), one, within=LIVE_WITHIN)
    assert said(pair) == {"one"}
    edit(pair, SOURCE.format(word="two"))  # the folder is followed as any other
    eventually(lambda: agreed(browser, page) not in ("", one), True, within=LIVE_WITHIN)


def test_pin_outlives_a_restart_and_saves_from_a_broken_edit(pair: GatewayServer, browser: Browser) -> None:
    page = browser.page_of(ID)
    eventually(lambda: bool(agreed(browser, page)), True, within=30)  # the second worker starts later
    one = agreed(browser, page)
    edit(pair, "import nowhere_to_be_found\n")
    eventually(lambda: "does not load" in browser.words(page), True)
    text = browser.words(page)
    assert f"Last good version Version {one} serves" in text
    assert re.search(r"Weather/agent\.py:1 ", text)
    eventually(lambda: f"Keep version {one}" in browser.html(page), True)
    browser.put_back(page, one)
    eventually(lambda: f"Version {one} serves: admin put it back" in browser.words(page), True)
    browser.close()

    pair.stop()
    pair.start()
    again = Browser(pair)
    try:
        eventually(lambda: agreed(again, page), one, within=30)
        assert said(pair) == {"one"}
        assert len(re.findall(r"last sign \d+ s ago", again.words(page))) == 2  # the stopped workers' rows are gone
    finally:
        again.close()
