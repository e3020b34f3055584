"""Model lists read in the background, and what each worker knows of its upstreams, written down for the others."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.core import clock
from apps.core.errors import UpstreamError
from apps.core.models import ConfigVersion
from apps.core.periodic import Periodic
from apps.upstreams import health, refreshing
from apps.upstreams.health import State
from apps.upstreams.health_rows import HealthRows, observed_health
from apps.upstreams.models import Kind, Upstream, UpstreamHealth
from apps.upstreams.refreshing import Refresher, refresh
from tests.conftest import write_agent
from tests.factories import UpstreamFactory
from tests.harness import GatewayServer, eventually

NOBODY = "http://127.0.0.1:9/v1"


class Listing:
    """A server that lists models, or answers with a status. `asked` counts; `most` is how many asked at once."""

    def __init__(self) -> None:
        self.names = ["m"]
        self.status = 200
        self.asked = self.at_once = self.most = 0
        self.together = threading.Barrier(1)  # that many questions are answered at once
        lock, listing = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # http.server's name
                with lock:
                    listing.asked += 1
                    listing.at_once += 1
                    listing.most = max(listing.most, listing.at_once)
                listing.together.wait(10)
                content = json.dumps({"data": [{"id": name} for name in listing.names]}).encode()
                with lock:
                    listing.at_once -= 1
                self.send_response(listing.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # somebody did not wait for it
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def listing() -> Iterator[Listing]:
    server = Listing()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    health.forget_changed({})
    yield
    health.forget_changed({})


def put(slug: str, base_url: str, **fields: Any) -> Upstream:
    row: Upstream = UpstreamFactory.create(slug=slug, base_url=base_url, **fields)
    return row


def models(slug: str) -> list[str]:
    return list(Upstream.objects.get(slug=slug).models.values_list("name", flat=True))


def aged(row: Upstream, seconds: float) -> None:
    """As if it had been asked so long ago."""
    Upstream.objects.filter(pk=row.pk).unpublished().update(asked_at=clock.now() - timedelta(seconds=seconds))


@pytest.mark.django_db
class TestRefresh:
    def test_all_are_asked_and_a_failure_keeps_the_list(self, listing: Listing) -> None:
        dead = put("dead", NOBODY, serves=["kept"])

        outcomes = refresh([put("alive", listing.base_url), dead])

        assert [(one.upstream.slug, one.models, one.error is None) for one in outcomes] == [
            ("alive", ("m",), True),
            ("dead", (), False),
        ]
        assert (models("alive"), models("dead")) == (["m"], ["kept"])
        assert (health.standing("alive").state, health.standing("dead").state) == (State.HEALTHY, State.DOWN)
        dead.refresh_from_db()
        assert (dead.last_error, dead.last_error_code) == (outcomes[1].error.message, "upstream_unreachable")  # type: ignore[union-attr]

    def test_many_are_asked_at_once_but_not_all(self, listing: Listing) -> None:
        listing.together = threading.Barrier(refreshing.AT_ONCE)

        refresh([put(f"box-{number}", listing.base_url) for number in range(2 * refreshing.AT_ONCE)])

        assert (listing.asked, listing.most) == (2 * refreshing.AT_ONCE, refreshing.AT_ONCE)

    def test_who_was_not_asked_in_time_is_told(self, listing: Listing) -> None:
        listing.together = threading.Barrier(2)  # one alone is never answered

        (outcome,) = refresh([put("box", listing.base_url)], within=0.05)
        listing.together.abort()

        assert outcome.error is not None
        assert outcome.error.message == "There was no time left to ask 'box'. Refresh it by itself."

    def test_answer_of_a_former_address_is_not_stored(self, listing: Listing) -> None:
        row = put("box", listing.base_url)
        Upstream.objects.filter(pk=row.pk).update(base_url=NOBODY)

        (outcome,) = refresh([row])

        assert outcome.error is not None
        assert "was changed while it was asked" in outcome.error.message
        assert models("box") == []

    @pytest.mark.parametrize(
        ("lists", "status", "passes"), [(False, 500, True), (False, 401, False), (True, 500, False)]
    )
    def test_any_answer_is_a_sign_of_life_of_a_server_without_a_list(
        self, listing: Listing, lists: bool, status: int, passes: bool
    ) -> None:
        listing.status = status  # transformers serve fails without its cache

        (outcome,) = refresh([put("box", listing.base_url, lists_models=lists)])

        assert ((outcome.error is None), outcome.models) == (passes, ())


@pytest.mark.django_db
class TestRefresher:
    @pytest.fixture(autouse=True)
    def _every_five_minutes(self, settings: Any) -> None:
        settings.GATEWAY_UPSTREAM_REFRESH = 300

    def test_new_one_is_asked_at_once_and_then_only_when_it_is_due(self, listing: Listing) -> None:
        row = put("box", listing.base_url)
        refresher = Refresher()
        refresher.look()
        refresher.look()
        assert listing.asked == 1

        aged(row, 200)
        refresher.look()
        assert listing.asked == 1
        aged(row, 331)  # a tenth more than 300
        refresher.look()
        assert listing.asked == 2

    def test_unchanged_list_does_not_disturb_the_configuration(self, listing: Listing) -> None:
        row = put("box", listing.base_url)
        Refresher().look()
        before = ConfigVersion.current()
        aged(row, 331)

        Refresher().look()

        assert (listing.asked, ConfigVersion.current()) == (2, before)

    def test_changed_list_is_in_force(self, listing: Listing) -> None:
        row = put("box", listing.base_url)
        Refresher().look()
        before = ConfigVersion.current()
        listing.names = ["n"]
        aged(row, 331)

        Refresher().look()

        assert (models("box"), ConfigVersion.current() > before) == (["n"], True)

    def test_one_that_does_not_answer_is_asked_sooner(self, listing: Listing) -> None:
        row = put("box", listing.base_url)
        Refresher().look()
        Upstream.objects.filter(pk=row.pk).update(last_error="It is off.")
        aged(row, 17)

        Refresher().look()

        assert listing.asked == 2
        assert Upstream.objects.get().last_error == ""

    def test_one_that_this_worker_thinks_ill_of_is_asked_sooner(self, listing: Listing) -> None:
        row = put("box", listing.base_url)
        Refresher().look()
        health.note_failure("box", UpstreamError("It broke off."))
        aged(row, 17)

        Refresher().look()

        assert listing.asked == 2

    def test_one_that_refuses_the_secret_is_not_pestered(self, listing: Listing) -> None:
        listing.status = 401
        row = put("box", listing.base_url)
        Refresher().look()
        aged(row, 17)

        Refresher().look()

        assert listing.asked == 1

    def test_of_two_workers_one_asks_and_both_know(self, listing: Listing) -> None:
        put("box", listing.base_url)
        first, second = Refresher(), Refresher()
        first.look()
        health.forget_changed({})  # as the other process, which has asked nobody

        second.look()

        assert (listing.asked, health.standing("box").state) == (1, State.HEALTHY)

    def test_failure_that_another_worker_met_is_known_with_its_reason(self) -> None:
        put("box", NOBODY)
        first, second = Refresher(), Refresher()
        first.look()
        health.forget_changed({})

        second.look()

        known = health.standing("box")
        assert (known.state, known.reason) == (State.DOWN, Upstream.objects.get().last_error)

    def test_disabled_and_demo_are_left_alone(self, listing: Listing) -> None:
        put("off", listing.base_url, enabled=False)
        put("demo", "", kind=Kind.DEMO)

        Refresher().look()

        assert listing.asked == 0

    def test_nobody_is_asked_when_it_is_off_but_what_others_asked_is_heard(
        self, listing: Listing, settings: Any
    ) -> None:
        settings.GATEWAY_UPSTREAM_REFRESH = 0
        row = put("box", listing.base_url)
        refresher = Refresher()
        refresher.look()
        assert (listing.asked, health.standing("box").state) == (0, State.UNKNOWN)

        refresh([row])  # by the button of the admin
        health.forget_changed({})
        refresher.look()

        assert health.standing("box").state == State.HEALTHY


@pytest.mark.django_db
class TestHealthRows:
    @pytest.fixture
    def rows(self) -> HealthRows:
        rows = HealthRows()
        rows._worker = "this:1"
        rows._beat_at = clock.now()
        return rows

    def test_what_this_worker_knows_is_written_once(self, rows: HealthRows, django_assert_num_queries: Any) -> None:
        put("box", NOBODY)
        put("never-used", NOBODY)
        health.note_failure("box", UpstreamError("It broke off."))
        rows.tell()

        with django_assert_num_queries(0):
            rows.tell()

        assert list(UpstreamHealth.objects.values_list("worker", "upstream__slug", "state", "reason")) == [
            ("this:1", "box", "degraded", "It broke off.")
        ]

    def test_change_replaces_what_was_said(self, rows: HealthRows) -> None:
        put("box", NOBODY)
        for _ in range(health.IN_A_ROW):
            health.note_failure("box", UpstreamError("It broke off."))
            rows.tell()

        row = UpstreamHealth.objects.get()
        assert (row.state, row.since) == ("down", health.standing("box").since)

    def test_upstream_of_which_nothing_is_known_any_more_has_no_row(self, rows: HealthRows) -> None:
        put("box", NOBODY)
        health.note_success("box")
        rows.tell()
        health.forget_changed({})

        rows.tell()

        assert not UpstreamHealth.objects.exists()

    def test_heartbeat_keeps_the_rows_and_removes_those_of_the_dead(self, rows: HealthRows) -> None:
        box = put("box", NOBODY)
        health.note_success("box")
        rows.tell()
        long_ago = clock.now() - timedelta(seconds=61)
        UpstreamHealth.objects.create(
            worker="dead:1", upstream=box, state="down", reason="x", since=long_ago, seen_at=long_ago
        )
        UpstreamHealth.objects.filter(worker="this:1").update(seen_at=long_ago + timedelta(seconds=30))
        rows._beat_at = long_ago

        rows.tell()

        assert [one.worker for one in UpstreamHealth.objects.all()] == ["this:1"]
        assert observed_health([box])[box.pk].state == State.HEALTHY

    def test_rows_that_another_worker_removed_are_written_again(self, rows: HealthRows) -> None:
        put("box", NOBODY)
        health.note_success("box")
        rows.tell()
        UpstreamHealth.objects.all().delete()
        rows._beat_at = clock.now() - timedelta(seconds=11)

        rows.tell()  # the heartbeat notices
        rows.tell()

        assert UpstreamHealth.objects.get().state == "healthy"


@pytest.mark.django_db
class TestCommand:
    def test_tells_a_line_for_each(self, listing: Listing, capsys: pytest.CaptureFixture[str]) -> None:
        listing.names = ["m", "n"]
        put("alive", listing.base_url)
        put("off", NOBODY, enabled=False)

        call_command("refresh_upstreams")

        assert capsys.readouterr().out == "alive: 2 models\n"

    def test_fails_when_one_does_not_answer(self, listing: Listing, capsys: pytest.CaptureFixture[str]) -> None:
        put("alive", listing.base_url)
        put("dead", NOBODY)

        with pytest.raises(CommandError, match=r"^1 of 2 could not be read\.$"):
            call_command("refresh_upstreams")

        first, second = capsys.readouterr().out.splitlines()
        assert (first, second.startswith("dead: Nothing listens")) == ("alive: 1 model", True)

    def test_unknown_name_is_told_with_those_there_are(self) -> None:
        put("box", NOBODY)

        with pytest.raises(CommandError, match=r"^There is no upstream bx\. There are: box\.$"):
            call_command("refresh_upstreams", "bx")


def test_what_fails_once_is_done_again() -> None:
    calls: list[int] = []

    def do() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no")

    thread = Periodic("test", do, seconds=0.001)
    thread.start()
    eventually(lambda: len(calls) > 2, True)
    thread.stop()


def test_server_process_reads_models_by_itself_and_shows_how_they_fare(
    start_gateway: Callable[..., GatewayServer], listing: Listing, tmp_path: Path
) -> None:
    server = start_gateway(agents={}, GATEWAY_UPSTREAM_REFRESH="0.5")
    write_agent(server.agents / "Boxed", model="box/m")
    server.operator.put_upstream("box", kind="other", base_url=listing.base_url)
    key = server.operator.issue_key("Operator", may_administer=True)["credential"]

    def shown() -> Any:
        answer = server.request("GET", "/upstreams", headers={"x-api-key": key})
        rows = {one["name"]: one for one in answer.json().get("data", [])}
        return (rows["box"]["models"], rows["box"]["state"], len(rows["box"]["workers"])) if "box" in rows else answer

    eventually(shown, (1, "healthy", 1), within=10)
    listing.names = ["m", "n"]
    eventually(shown, (2, "healthy", 1), within=10)

    listing.server.shutdown()
    listing.server.server_close()
    eventually(lambda: shown()[1], "down", within=10)


def test_models_list_of_clients_asks_no_server(gateway: GatewayServer, listing: Listing) -> None:
    gateway.operator.put_upstream("listing", kind="other", base_url=listing.base_url, exposes_models=True)
    asked = listing.asked

    for _ in range(3):
        assert len(gateway.openai().models.list().data) > 0

    assert listing.asked == asked
    gateway.operator.delete_upstream("listing")
