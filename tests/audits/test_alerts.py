import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
from django.core import mail
from django.test import override_settings

from apps.audits.alerts import deliver, outbox, webhook
from apps.audits.auditing import audit
from apps.audits.broken_agents import tell_of_broken
from apps.audits.models import AlertChannel, AlertDelivery, Finding
from apps.audits.rule import Severity
from apps.catalog.models import DropIn, State
from apps.core import clock
from tests.audits.conftest import Subjects
from tests.factories import DropInFactory
from tests.harness.processes import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

DOCS = (ROOT / "docs" / "audits.md").read_text()


class Receiver:
    """A web server that answers with `answers`, then 200, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.end_headers()
                self.wfile.write(b"so it is")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


def channel(receiver: Receiver, **fields: Any) -> AlertChannel:
    known = {"name": "On-call", "kind": "webhook", "url": receiver.url, "allow_private_hosts": True}
    row = AlertChannel(**known | fields)
    row.secret = webhook.new_secret()
    row.save()
    return row


def later(**delta: float) -> None:
    """As if so much time had passed for what waits."""
    for row in AlertDelivery.objects.filter(state="waiting"):
        AlertDelivery.objects.filter(pk=row.pk).update(next_attempt_at=row.next_attempt_at - timedelta(**delta))


@pytest.fixture
def is_from_the_gateway() -> Callable[[str, dict[str, str], bytes], bool]:
    """What the guide has people copy."""
    (source,) = re.findall(r"^```python\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    verify: Callable[[str, dict[str, str], bytes], bool] = names["is_from_the_gateway"]
    return verify


def test_webhook_is_tried_again_and_signed_as_the_guide_says(
    receiver: Receiver, subjects: Subjects, is_from_the_gateway: Callable[[str, dict[str, str], bytes], bool]
) -> None:
    secret = channel(receiver).secret
    receiver.answers = [500]
    subjects.there = ["key a"]
    run = audit(by="ann", rules=subjects.rules)

    (failed,) = deliver.deliver_due()
    assert (failed.state, failed.status, failed.attempts) == ("waiting", 500, 1)
    assert failed.error == f"{receiver.url} answered 500. so it is"
    assert deliver.deliver_due() == []  # not before a minute has passed
    later(minutes=1)
    (delivered,) = deliver.deliver_due()

    assert (delivered.state, delivered.status, delivered.attempts, delivered.error) == ("delivered", 200, 2, "")
    (first, body), (second, same) = receiver.got
    assert (first["webhook-id"], body) == (second["webhook-id"], same)
    assert is_from_the_gateway(secret, second, body)
    assert not is_from_the_gateway(secret, second, body + b" ")
    assert not is_from_the_gateway(webhook.new_secret(), second, body)
    told = json.loads(body)
    assert (told["type"], told["severity"], told["data"]["audit"]) == ("audit.findings", "high", run.pk)
    assert [one["subject"] for one in told["data"]["findings"]] == ["key a"]


def test_finding_is_told_once_until_it_is_gone_and_back(receiver: Receiver, subjects: Subjects) -> None:
    channel(receiver)
    for there in (["key a"], ["key a"], ["key a", "key b"], [], ["key a"]):
        subjects.there = there
        audit(by="ann", rules=subjects.rules)
        deliver.deliver_due()

    told = [[one["subject"] for one in json.loads(body)["data"]["findings"]] for _, body in receiver.got]
    assert told == [["key a"], ["key b"], ["key a"]]


def test_channel_is_told_what_it_wants(receiver: Receiver) -> None:
    channel(receiver, name="High", min_severity="high")
    channel(receiver, name="All", min_severity="low")
    channel(receiver, name="Off", min_severity="low", enabled=False)
    rules = {}
    for severity in Severity:
        one = Subjects(f"{severity}-rule", severity)
        one.there = [severity]
        rules |= one.rules
    audit(by="ann", rules=rules)

    told = {row.channel.name: row.title for row in AlertDelivery.objects.select_related("channel")}
    assert told == {
        "High": "The audit has 1 new finding, the worst of severity high: Title of high-rule: high",
        "All": "The audit has 3 new findings, the worst of severity high: Title of high-rule: high",
    }


def test_private_hosts_are_refused_unless_the_channel_allows_them(receiver: Receiver) -> None:
    row = channel(receiver, allow_private_hosts=False)
    (tried,) = deliver.deliver([outbox.test_alert(row)])

    assert receiver.got == []
    assert (
        tried.error
        == f"{receiver.url} is no public address. Allow private hosts in the channel if it is meant to be one."
    )


def test_nothing_is_sent_without_a_secret_to_sign_with(receiver: Receiver) -> None:
    row = channel(receiver)
    row.secret = ""
    row.save()
    outbox.test_alert(row)
    (waiting,) = deliver.deliver_due()
    assert (waiting.state, waiting.error, receiver.got) == (
        "waiting",
        "The channel has no signing secret. Enter one on its page; or save it, and one is made.",
        [],
    )
    row.secret = webhook.new_secret()
    row.save()
    later(minutes=1)
    assert [one.state for one in deliver.deliver_due()] == ["delivered"]


def test_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = [307]
    (tried,) = deliver.deliver([outbox.test_alert(channel(receiver))])
    assert (tried.state, tried.status, len(receiver.got)) == ("waiting", 307, 1)


def test_delivery_is_given_up_after_three_days_and_may_be_made_again(receiver: Receiver) -> None:
    row = outbox.test_alert(channel(receiver))
    receiver.answers = [503] * 9
    for _ in range(9):
        deliver.deliver_due()
        later(days=1)
    row.refresh_from_db()
    assert (row.state, row.attempts, deliver.deliver_due()) == ("failed", 9, [])

    deliver.redeliver([AlertDelivery.objects.select_related("channel").get()])

    row.refresh_from_db()
    assert (row.state, row.attempts) == ("delivered", 1)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_of_two_who_deliver_at_once_one_does(receiver: Receiver) -> None:
    row = outbox.test_alert(channel(receiver))
    same = AlertDelivery.objects.select_related("channel").get()

    assert [len(deliver.deliver([one])) for one in (row, same)] == [1, 0]
    assert len(receiver.got) == 1


def test_mail_goes_to_the_recipients_or_says_what_is_missing(subjects: Subjects) -> None:
    AlertChannel.objects.create(name="Mail", kind="email", recipients=["ops@example.com"])
    subjects.there = ["key a"]
    audit(by="ann", rules=subjects.rules)
    (tried,) = deliver.deliver_due()
    assert tried.error.startswith("No mail server is known. Set EMAIL_URL")

    later(minutes=1)
    with override_settings(EMAIL_URL="smtp://mail.example.com"):  # pytest-django keeps mails in memory
        deliver.deliver_due()

    (sent,) = mail.outbox
    assert (sent.to, sent.subject) == (
        ["ops@example.com"],
        "[Agent Gateway] The audit has 1 new finding, the worst of severity high: Title of test-rule: key a",
    )
    assert "There is key a." in sent.body


@pytest.fixture
def mail_server() -> Iterator[int]:
    """Its port; it takes whatever it is told."""

    class Smtp(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for _ in self.rfile:
                self.wfile.write(b"250 yes\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_sender_that_is_no_address_is_told_and_holds_up_no_other_channel(receiver: Receiver, mail_server: int) -> None:
    mails = AlertChannel.objects.create(name="Mail", kind="email", recipients=["ops@example.com"])
    rows = [outbox.test_alert(mails), outbox.test_alert(channel(receiver))]
    smtp = {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend", "EMAIL_HOST": "127.0.0.1"}
    sender = "Gateway, Ops <gateway@example.com>"
    with override_settings(EMAIL_URL="smtp://", DEFAULT_FROM_EMAIL=sender, EMAIL_PORT=mail_server, **smtp):
        mail_row, hook_row = deliver.deliver(rows)

    assert (mail_row.state, hook_row.state) == ("waiting", "delivered")
    assert mail_row.error.startswith("The mail cannot be written: Invalid address; only Gateway could be parsed")
    assert mail_row.error.endswith("Check GATEWAY_EMAIL_FROM.")


def test_broken_agent_is_told_of_once_until_it_is_mended() -> None:
    AlertChannel.objects.create(name="Log", kind="log", min_severity="high")
    DropInFactory(agent_id="default/a", state=State.BROKEN)
    DropInFactory(agent_id="default/b", state=State.STALE)
    DropInFactory(agent_id="default/c")
    assert [tell_of_broken(), tell_of_broken()] == [["default/a", "default/b"], []]

    DropIn.objects.filter(agent_id="default/a").update(state=State.LIVE)
    assert tell_of_broken() == []
    DropIn.objects.filter(agent_id="default/a").update(state=State.BROKEN)
    assert tell_of_broken() == ["default/a"]

    assert sorted(AlertDelivery.objects.values_list("title", flat=True)) == [
        "The agent default/a is broken.",
        "The agent default/a is broken.",
        "The agent default/b is served by its last good version.",
    ]


def test_alert_that_is_written_again_stays_one(subjects: Subjects) -> None:
    subjects.there = ["key a"]
    AlertChannel.objects.create(name="Log", kind="log")
    run = audit(by="ann", rules=subjects.rules)
    assert AlertDelivery.objects.get().key == f"audit {run.pk}"
    outbox.tell_findings(run, list(Finding.objects.all()))  # as after a crash, once more
    assert AlertDelivery.objects.count() == 1
    assert outbox.forget_old(clock.now() + timedelta(days=1)) == 0  # what waits stays
