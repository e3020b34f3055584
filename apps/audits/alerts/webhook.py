"""One POST to a URL that an operator entered, signed as https://www.standardwebhooks.com has it.

    webhook-id         the same for every attempt at one alert
    webhook-timestamp  Unix seconds, of this attempt
    webhook-signature  v1, and base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`

The key is what follows `whsec_` in the channel's secret, in base64.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets

import aiohttp

from apps.audits.alerts.failure import NotDelivered
from apps.audits.models import AlertChannel, AlertDelivery
from apps.core import clock
from apps.core.secrets import SecretUnreadable
from apps.tools import safe_hosts
from apps.upstreams.asking import shown_url

SECONDS = 10.0
PREFIX = "whsec_"
_HEARD = 300  # bytes of a refusal's body


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def is_secret(text: str) -> bool:
    try:
        return text.startswith(PREFIX) and len(_key(text)) >= 16
    except binascii.Error:
        return False


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


def post(channel: AlertChannel, delivery: AlertDelivery) -> int:
    """The status of the answer, which is one of success. Raises NotDelivered."""
    if not channel.encrypted_secret:  # an empty key signs too, and anybody has that one
        raise NotDelivered("The channel has no signing secret. Enter one on its page; or save it, and one is made.")
    try:
        return asyncio.run(_post(channel, delivery))
    except SecretUnreadable as error:
        raise NotDelivered(str(error)) from error
    except TimeoutError as error:
        raise NotDelivered(f"{shown_url(channel.url)} did not answer within {SECONDS:g} s.") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotDelivered(_why(error, shown_url(channel.url))) from error


async def _post(channel: AlertChannel, delivery: AlertDelivery) -> int:
    guard = None if channel.allow_private_hosts else safe_hosts.public_socket
    connector = aiohttp.TCPConnector(socket_factory=guard, force_close=True)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    body = delivery.body.encode()
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.post(
            channel.url, data=body, headers=_headers(channel, delivery, body), allow_redirects=False
        ) as response,
    ):
        if response.status // 100 == 2:
            return response.status
        said = (await response.content.read(_HEARD)).decode(errors="replace").replace("\0", "")
        text = f"{shown_url(channel.url)} answered {response.status}. {' '.join(said.split())}".rstrip()
        raise NotDelivered(text, status=response.status)


def _headers(channel: AlertChannel, delivery: AlertDelivery, body: bytes) -> dict[str, str]:
    id, timestamp = f"alert_{delivery.pk}", int(clock.now().timestamp())
    return {
        "content-type": "application/json",
        "user-agent": "agent-gateway",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(channel.secret, id, timestamp, body),
    }


def _why(error: Exception, url: str) -> str:
    inner = getattr(error, "os_error", error)
    if isinstance(inner, safe_hosts.AddressRefused):
        return f"{url} is no public address. Allow private hosts in the channel if it is meant to be one."
    if isinstance(inner, ConnectionRefusedError) or "refused" in str(error).lower():
        return f"Nothing listens at {url}."
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"The host name of {url} is not known here."
    return f"{url} cannot be reached ({error or type(error).__name__})."
