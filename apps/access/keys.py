"""API keys: issuing one, and finding the key behind a presented credential without a database."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from apps.access.models import ApiKey
from apps.core import live_config
from apps.core.globs import matches
from apps.core.write_behind import BatchWriter

MARK = "agw_"
PREFIX_LENGTH = len(MARK) + 8
MINIMUM_LENGTH = 16  # of a key that somebody chose (GATEWAY_BOOTSTRAP_API_KEY)


@dataclass(frozen=True, slots=True)
class Key:
    """What the hot path knows of a key."""

    id: int
    name: str
    may_chat: bool
    may_administer: bool
    agents: tuple[str, ...]
    expires_at: datetime | None
    revoked: bool

    def is_in_force(self, at: datetime) -> bool:
        return not self.revoked and (self.expires_at is None or at < self.expires_at)

    def may_use(self, agent_id: str) -> bool:
        return matches(agent_id, self.agents)


def digest(credential: str) -> str:
    """The SHA-256 that is stored instead of the key. 256 random bits need no slow hash."""
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()


def issue_key(name: str, *, credential: str | None = None, **fields: Any) -> tuple[ApiKey, str]:
    """Create a key and return it with the credential, which cannot be had again.

    `credential` fixes it instead of drawing 256 random bits; `fields` are ApiKey's own. Raises ValueError when a given
    credential is too short to be safe, and IntegrityError when it is in use.
    """
    if credential is None:
        credential = f"{MARK}{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    elif len(credential) < MINIMUM_LENGTH:
        raise ValueError(f"An API key needs at least {MINIMUM_LENGTH} characters.")
    shown = credential[:PREFIX_LENGTH] if credential.startswith(MARK) else credential[:4]
    key = ApiKey.objects.create(name=name, prefix=shown, digest=digest(credential), **fields)
    return key, credential


def _load() -> Mapping[str, Key]:
    rows = ApiKey.objects.values_list(
        "digest", "id", "name", "may_chat", "may_administer", "agents", "expires_at", "revoked_at"
    )
    return MappingProxyType(
        {
            digest: Key(id, name, may_chat, may_administer, tuple(agents), expires_at, revoked_at is not None)
            for digest, id, name, may_chat, may_administer, agents, expires_at, revoked_at in rows
        }
    )


keys = live_config.section("access.keys", _load)


def find_key(credential: str) -> Key | None:
    """The key of this credential, whatever its state; the look-up by digest tells nothing by its time."""
    return keys.current().get(digest(credential))


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
