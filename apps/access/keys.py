"""API keys: issuing one, and finding the key behind a presented credential without a database."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, TextField
from django.db.models.functions import Cast

from apps.access.models import ApiKey, Grant, Team
from apps.access.policy import Effect
from apps.access.subject import Key
from apps.core import clock, live_config
from apps.core.write_behind import BatchWriter

MARK = "agw_"
PREFIX_LENGTH = len(MARK) + 8
MINIMUM_LENGTH = 16  # of a key that somebody chose (GATEWAY_BOOTSTRAP_API_KEY)
MAXIMUM_LENGTH = 512  # nothing longer is looked up
OVERLAP = timedelta(hours=24)  # that a credential counts on after it was replaced, unless somebody says otherwise


def digest(credential: str) -> str:
    """The SHA-256 that is stored instead of the key. 256 random bits need no slow hash."""
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()


# --- issuing and replacing -------------------------------------------------------------------------------------------


class NotRotated(ValueError):
    """A key keeps its credential. `code` says why, for programs."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


def issue_key(
    name: str, *, credential: str | None = None, agents: Iterable[str] = ("*",), **fields: Any
) -> tuple[ApiKey, str]:
    """Create a key with a grant for each glob of `agents`; return it with the credential, which cannot be had again.

    `credential` fixes it instead of drawing 256 random bits; `fields` are ApiKey's own. Raises ValueError when a given
    credential is too short or too long to be a key, and IntegrityError when it is in use.
    """
    if credential is None:
        credential = _new_credential()
    elif not MINIMUM_LENGTH <= len(credential) <= MAXIMUM_LENGTH:
        raise ValueError(f"An API key needs at least {MINIMUM_LENGTH} characters, and at most {MAXIMUM_LENGTH}.")
    with transaction.atomic():
        key = ApiKey.objects.create(name=name, prefix=_beginning(credential), digest=digest(credential), **fields)
        grant_only(key, agents)
    return key, credential


def grant_only(key: ApiKey, agents: Iterable[str]) -> None:
    """Make these globs all that the key's own grants allow. What they deny stays, and so do grants that are right."""
    wanted = dict.fromkeys(agents)
    with transaction.atomic():
        for grant in Grant.objects.filter(key=key, effect=Effect.ALLOW):
            if grant.agents not in wanted:
                grant.delete()
            wanted.pop(grant.agents, None)
        for glob in wanted:
            Grant.objects.create(key=key, effect=Effect.ALLOW, agents=glob)


def mark_of(author: str, mark: str) -> str:
    """For ApiKey.asked_for: equal for requests of one author with one mark, so that such a request makes one key."""
    return hashlib.sha256(f"{author}\0{mark}".encode("utf-8", "surrogatepass")).hexdigest()


def rotate_key(key: ApiKey, *, at: datetime, overlap: timedelta = OVERLAP) -> str:
    """Give the key a new credential and return it. The former one counts on for `overlap`, and none before that.

    Raises NotRotated for a key that is revoked, and for one that was rotated since `key` was read: of two rotations at
    once, one would be told a credential that the other has overwritten.
    """
    with transaction.atomic():
        now = ApiKey.objects.select_for_update().filter(pk=key.pk).first()
        if now is None or now.revoked_at:
            raise NotRotated("A revoked key cannot be rotated; issue another one.", "key_revoked")
        if now.digest != key.digest:
            raise NotRotated(
                "The key was given a new credential at this moment, by another rotation, and that one counts. "
                "Rotate it again if you were not told it.",
                "key_rotated_meanwhile",
            )
        credential = _new_credential()
        key.previous_digest, key.previous_until = key.digest, at + overlap
        key.digest, key.prefix = digest(credential), _beginning(credential)
        key.save(update_fields=["digest", "prefix", "previous_digest", "previous_until"])
    return credential


def end_former_credential(key: ApiKey, *, at: datetime) -> None:
    """Let the credential before the last rotation count no more, before its time is over."""
    key.previous_until = at
    key.save(update_fields=["previous_until"])


def _new_credential() -> str:
    return f"{MARK}{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def _beginning(credential: str) -> str:
    return credential[:PREFIX_LENGTH] if credential.startswith(MARK) else credential[:4]


# --- finding ---------------------------------------------------------------------------------------------------------


class Known(msgspec.Struct, frozen=True):
    """A digest's key. `until` is when this credential stops counting, for one that was replaced."""

    digest: str
    key: Key
    until: datetime | None = None


_CHUNK = 5000  # rows read at once
_NOTHING: tuple[str, ...] = ()
_OF_KEY = (  # in the order of Key's fields
    *("id", "name", "owner", "team_id", "may_chat", "may_administer", "expires_at", "is_revoked"),
    *("ranges_text", "origins_text", "trusts_identity_headers", "encrypted_identity_secret"),
)


def _load() -> Mapping[str, Known]:
    rows = ApiKey.objects.annotate(
        is_revoked=ExpressionWrapper(Q(revoked_at__isnull=False), BooleanField()),
        # As text: decoding two empty lists for each of 100,000 keys would cost more than everything else.
        ranges_text=Cast("ip_ranges", TextField()),
        origins_text=Cast("origins", TextField()),
    )
    columns = rows.values_list("digest", "previous_digest", "previous_until", *_OF_KEY)
    known: dict[str, Known] = {}
    for digest, former, former_until, *before, ranges, origins, trusts, sealed in columns.iterator(chunk_size=_CHUNK):
        key = Key(*[*before, _texts(ranges), _texts(origins), trusts, sealed])
        known[digest] = Known(digest, key)
        if former:
            known[former] = Known(former, key, former_until)
    return MappingProxyType(known)


def _texts(encoded: str) -> tuple[str, ...]:
    return tuple(json.loads(encoded)) if encoded != "[]" else _NOTHING


keys = live_config.section("access.keys", _load, reads=[ApiKey, Team], fails_closed=True)


def find_key(credential: str, at: datetime | None = None) -> Key | None:
    """The key of this credential, whatever its state; None too for a former one whose time is over `at` that instant.

    The look-up by digest tells nothing by its time, and the digests are compared in constant time once more.
    """
    if len(credential) > MAXIMUM_LENGTH:
        return None
    presented = digest(credential)
    known = keys.current().get(presented)
    if known is None or not hmac.compare_digest(known.digest, presented):
        return None
    return known.key if known.until is None or (at or clock.now()) < known.until else None


def find_by_id(key_id: int) -> Key | None:
    """For operators, who name keys by their ids. Takes time in proportion to the keys."""
    return next((known.key for known in keys.current().values() if known.key.id == key_id), None)


class _Names:
    """By id, made anew from each snapshot of the keys that is asked for names."""

    def __init__(self) -> None:
        self._of: object = None
        self._names: dict[int, str] = {}

    def find(self, key_id: int) -> str | None:
        known = keys.current()
        if known is not self._of:
            self._names = {one.key.id: one.key.name for one in known.values()}
            self._of = known
        return self._names.get(key_id)


key_names = _Names()


# --- last use --------------------------------------------------------------------------------------------------------

_NOTED_EVERY = timedelta(seconds=30)
_noted: dict[int, datetime] = {}


def _write_uses(uses: list[tuple[int, datetime]]) -> None:
    for key_id, at in dict(uses).items():
        ApiKey.objects.unpublished().filter(pk=key_id).update(last_used_at=at)


key_uses: BatchWriter[tuple[int, datetime]] = BatchWriter("key-uses", _write_uses, capacity=10_000)


def note_use(key: Key, at: datetime) -> None:
    """Remember when the key was last used; written behind, at most twice a minute for each key."""
    last = _noted.get(key.id)
    if (last is None or at - last >= _NOTED_EVERY) and key_uses.offer((key.id, at)):
        _noted[key.id] = at
