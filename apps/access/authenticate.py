"""Who calls: the key of a request, and the person behind it where a front end may say so. Memory only."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import jwt
import structlog

from apps.access.keys import find_key, note_use
from apps.access.subject import EndUser, Key, Subject
from apps.core import clock, live_config
from apps.core.errors import IdentityRefused, KeyExpired, KeyMissing, Unauthenticated, Unavailable
from apps.core.secrets import SecretUnreadable, decrypt
from apps.observability import context

log = structlog.get_logger(__name__)

# Open WebUI with ENABLE_FORWARD_USER_INFO_HEADERS; with FORWARD_USER_INFO_HEADER_JWT_SECRET the one signed token
# stands for all the others. https://docs.openwebui.com/reference/env-configuration/
_TOKEN: Final = "HTTP_X_OPENWEBUI_USER_JWT"  # noqa: S105  # a header's name
_ISSUER: Final = "open-webui"
_HEADERS: Final = tuple(f"HTTP_X_OPENWEBUI_USER_{one}" for one in ("ID", "EMAIL", "NAME", "ROLE"))
_NOT_VALID: Final = "The API key is not valid. Issue one in the admin under API keys."
_LEEWAY: Final = 5  # seconds by which two clocks may differ
_LONGEST: Final = 200  # characters of what a front end says about a person


def authenticate(environ: Mapping[str, str]) -> Subject:
    """Who sent `Authorization: Bearer KEY` or `x-api-key: KEY`. Raises Unauthenticated.

    Raises Unavailable while the configuration cannot be read, because a revocation could not be heard of.

    `environ` is Django's `request.META`: its `request.headers` would parse every header for these two.
    """
    if live_config.is_stale():
        raise Unavailable(
            "Access cannot be decided: the gateway's database does not answer. Try again in a moment.",
            code="access_unknown",
            retry_after=live_config.POLL_SECONDS * 10,
        )
    key = _key(presented_credential(environ))
    subject = Subject(key, _person(key, environ), environ.get("REMOTE_ADDR", ""), environ.get("HTTP_ORIGIN", ""))
    context.bind(key_id=key.id, stage="resolve")
    return subject


def presented_credential(environ: Mapping[str, str]) -> str:
    """As the caller wrote it, whether it counts or not; empty when there is none."""
    scheme, _, credential = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        credential = environ.get("HTTP_X_API_KEY", "")
    return credential.strip()


def _key(credential: str) -> Key:
    if not credential:
        raise KeyMissing("No API key was given. Send `Authorization: Bearer KEY` or `x-api-key: KEY`.")
    at = clock.now()
    key = find_key(credential, at)
    if key is None:
        raise Unauthenticated(_NOT_VALID)
    if refused := refusal(key, at):
        raise refused
    note_use(key, at)
    return key


def refusal(key: Key, at: datetime) -> Unauthenticated | None:
    """What a caller with this key is answered when it does not count `at` that instant."""
    if key.revoked:
        return Unauthenticated(_NOT_VALID)
    if not key.is_in_force(at):
        return KeyExpired("The API key has expired. Issue a new one in the admin under API keys.")
    return None


def _person(key: Key, environ: Mapping[str, str]) -> EndUser | None:
    """Bare headers count only for a trusted front end, and never for a key whose persons are signed."""
    if key.sealed_identity_secret:
        token = environ.get(_TOKEN, "")
        if token:
            return _signed_person(key, token)
        if any(header in environ for header in _HEADERS):
            raise IdentityRefused(
                "This key takes persons only from the signed X-OpenWebUI-User-Jwt, and it is missing. "
                "Check FORWARD_USER_INFO_HEADER_JWT_SECRET of the front end."
            )
        return None
    if not key.trusts_identity_headers or not environ.get(_HEADERS[0]):
        return None
    id, email, name, role = (unquote(environ.get(header, ""))[:_LONGEST] for header in _HEADERS)
    return EndUser(id, email, name, role)


def _signed_person(key: Key, token: str) -> EndUser:
    try:
        claims = jwt.decode(
            token,
            _secret(key.sealed_identity_secret),
            algorithms=["HS256"],
            issuer=_ISSUER,
            leeway=_LEEWAY,
            options={"require": ["exp", "iss", "sub"]},
        )
    except (jwt.InvalidTokenError, SecretUnreadable) as error:
        log.warning("identity_refused", reason=str(error), key_id=key.id)
        raise IdentityRefused(
            f"The signed identity of the person is not valid: {_why(error)}. "
            "Front end and gateway need the same secret, and clocks that agree."
        ) from error
    id, email, name, role = (str(claims.get(claim) or "")[:_LONGEST] for claim in ("sub", "email", "name", "role"))
    return EndUser(id, email, name, role, verified=True)


@lru_cache(maxsize=1000)
def _secret(sealed: str) -> str:
    """Deciphering costs more than the rest of a request's authentication."""
    return decrypt(sealed)


def _why(error: Exception) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired"
        case jwt.InvalidIssuerError() | jwt.MissingRequiredClaimError():
            return "it is not from Open WebUI"
        case jwt.InvalidSignatureError():
            return "it was signed with another secret"
        case SecretUnreadable():
            return "the secret stored here cannot be read"
        case _:
            return "it cannot be read"
