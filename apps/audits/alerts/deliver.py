"""Alerts that wait are delivered, by whichever process claims them first; what fails is tried again, ever later."""

from collections.abc import Iterable
from datetime import timedelta
from smtplib import SMTPException

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import F

from apps.audits.alerts import webhook
from apps.audits.alerts.failure import NotDelivered
from apps.audits.models import AlertChannel, AlertDelivery
from apps.core import clock

# After each failed attempt; then it is given up. Three days altogether.
WAITS = tuple(timedelta(minutes=one) for one in (1, 5, 30, 120, 360, 720, 1440, 1440))
_AT_ONCE = 100  # of one call
_LEASE = timedelta(minutes=2)  # that an attempt may take, after which another process tries

State, Kind = AlertDelivery.State, AlertChannel.Kind
log = structlog.get_logger(__name__)


def deliver_due() -> list[AlertDelivery]:
    """Tries all that are due; returns those that were tried, as they are now. Raises nothing of the channels'."""
    now = clock.now()
    due = AlertDelivery.objects.filter(state=State.WAITING, next_attempt_at__lte=now, channel__enabled=True)
    return deliver(due.select_related("channel").order_by("next_attempt_at")[:_AT_ONCE])


def deliver(rows: Iterable[AlertDelivery]) -> list[AlertDelivery]:
    return [row for row in rows if _claim(row) and _try(row)]


def redeliver(rows: Iterable[AlertDelivery]) -> list[AlertDelivery]:
    """From the first attempt on, whatever became of them; receivers know them by their id."""
    now = clock.now()
    for row in rows:
        row.state, row.attempts, row.next_attempt_at = State.WAITING, 0, now
        row.delivered_at, row.status, row.error = None, None, ""
        row.save()
    return deliver(rows)


def _claim(row: AlertDelivery) -> bool:
    """Whether this process is the one that tries now."""
    unchanged = AlertDelivery.objects.filter(pk=row.pk, state=State.WAITING, attempts=row.attempts)
    due = unchanged.filter(next_attempt_at=row.next_attempt_at)
    if not due.update(attempts=F("attempts") + 1, next_attempt_at=clock.now() + _LEASE):
        return False
    row.attempts += 1
    return True


def _try(row: AlertDelivery) -> bool:
    try:
        row.status = _send(row)
    except NotDelivered as reason:
        _failed(row, reason)
    else:
        row.state, row.delivered_at, row.error = State.DELIVERED, clock.now(), ""
        log.info("alert_delivered", channel=row.channel.name, alert=row.event, attempts=row.attempts)
    row.save(update_fields=["state", "delivered_at", "status", "error", "next_attempt_at"])
    return True


def _failed(row: AlertDelivery, reason: NotDelivered) -> None:
    row.status, row.error = reason.status, str(reason)
    if row.attempts > len(WAITS):
        row.state = State.FAILED
    else:
        row.next_attempt_at = clock.now() + WAITS[row.attempts - 1]
    given_up = row.state == State.FAILED
    log.warning("alert_not_delivered", channel=row.channel.name, alert=row.event, reason=row.error, given_up=given_up)


def _send(row: AlertDelivery) -> int | None:
    """The HTTP status, of a webhook. Raises NotDelivered."""
    if row.channel.kind == Kind.WEBHOOK:
        return webhook.post(row.channel, row)
    if row.channel.kind == Kind.EMAIL:
        _mail(row)
    else:
        log.warning("alert", alert=row.event, severity=row.severity, title=row.title, text=row.text)
    return None


def _mail(row: AlertDelivery) -> None:
    if not settings.EMAIL_URL:
        raise NotDelivered("No mail server is known. Set EMAIL_URL, such as smtp://user:password@mail.example.com:587.")
    message = EmailMessage(
        subject=f"[Agent Gateway] {row.title}"[:200].replace("\n", " "),
        body=f"{row.title}\n\n{row.text}",
        to=row.channel.recipients,
        headers={"Message-ID": f"<alert-{row.pk}-{row.attempts}@agent-gateway>"},
    )
    try:
        message.send()
    except (SMTPException, OSError) as error:
        raise NotDelivered(f"The mail server refused it: {error}") from error
    except ValueError as error:  # of an address that is none, such as a name with a comma
        raise NotDelivered(f"The mail cannot be written: {error}. Check GATEWAY_EMAIL_FROM.") from error
