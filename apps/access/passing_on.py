"""What a key may give away: no other key than one that can do no more than itself.

Over the operators' API keys issue keys, and give others a new credential. Whoever holds a key with the scope `admin`
must not come by that to what its issuer did not give.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.access.models import ApiKey, Effects
from apps.access.subject import Network, networks
from apps.core import clock, globs


@dataclass(frozen=True, slots=True)
class Powers:
    """What a key can do, as far as its own row and grants say. Empty `ranges` and `origins`: from anywhere."""

    may_chat: bool
    may_administer: bool
    agents: Sequence[str]
    team_id: int | None
    expires_at: datetime | None
    ranges: Sequence[str]
    origins: Sequence[str]
    poses_as_persons: bool  # by headers alone


# What a member of staff may give, and gives unless they say otherwise.
UNBOUNDED = Powers(
    may_chat=True,
    may_administer=True,
    agents=["*"],
    team_id=None,
    expires_at=None,
    ranges=[],
    origins=[],
    poses_as_persons=True,
)


def powers_of(key: ApiKey) -> Powers:
    return Powers(
        may_chat=key.may_chat,
        may_administer=key.may_administer,
        agents=key.globs,
        team_id=key.team_id,
        expires_at=key.expires_at,
        ranges=key.ip_ranges,
        origins=key.origins,
        poses_as_persons=key.trusts_identity_headers and not key.encrypted_identity_secret,
    )


def why_not_issue(issuer: ApiKey, wanted: Powers) -> tuple[str, str] | None:
    """Why `issuer` may not issue such a key: the member that is too much, and a sentence. None when it may."""
    if any(_rows_about(issuer, holds_back=True)):
        return "", "This key has denials, tool rules or limits of its own, which a new one would not have."
    return next(_excess(powers_of(issuer), wanted), None)


def why_not_rotate(issuer: ApiKey, key: ApiKey) -> tuple[str, str] | None:
    """The same of learning another key's credential. Its own a key may always replace."""
    if issuer.pk == key.pk:
        return None
    if any(_rows_about(key, holds_back=False)):
        return "", "That key has tool rules, limits or overrides of its own, which may let it do more than this one."
    return why_not_issue(issuer, powers_of(key))


def _excess(own: Powers, wanted: Powers) -> Iterator[tuple[str, str]]:
    if (wanted.may_chat and not own.may_chat) or (wanted.may_administer and not own.may_administer):
        yield "scopes", "It would have a scope that this key lacks."
    if beyond := [one for one in wanted.agents if not any(globs.covers(wide, one) for wide in own.agents)]:
        yield "agents", f"It could use {beyond[0]}, which this key's own grants do not cover."
    if wanted.team_id != own.team_id:
        yield "team", "It would be in another team than this key."
    if own.expires_at and (wanted.expires_at is None or wanted.expires_at > own.expires_at):
        yield "expires_at", "It would outlive this key."
    if own.ranges and not _lie_within(wanted.ranges, own.ranges):
        yield "addresses", "It could be used from addresses that this key may not be used from."
    if own.origins and not (wanted.origins and set(wanted.origins) <= set(own.origins)):
        yield "origins", "It could be used by web pages that may not use this key."
    if wanted.poses_as_persons and not own.poses_as_persons:
        yield "trusts_identity_headers", "It could say for whom it asks, and this key cannot."


def _lie_within(ranges: Iterable[str], wide: Iterable[str]) -> bool:
    inner, outer = list(networks(ranges)), list(networks(wide))
    return bool(inner) and all(any(_contains(one, other) for one in outer) for other in inner)


def _contains(wide: Network, narrow: Network) -> bool:
    return wide.version == narrow.version and narrow.subnet_of(wide)  # type: ignore[arg-type]  # of one version


def _rows_about(key: ApiKey, *, holds_back: bool) -> Iterator[bool]:
    """Whether there is, of the rows about this key alone, what holds it back, or what lets it do more."""
    effect = Effects.DENY if holds_back else Effects.ALLOW
    if holds_back:
        yield key.grants.filter(effect=effect).exists()
    yield key.toolrules.filter(effect=effect).exists()
    yield key.overrides.in_force(clock.now()).filter(effect=effect).exists()
    yield key.limits.exists()
