"""Temporary exceptions: made and taken back by operators, in the admin and over the API."""

import re
from datetime import datetime, timedelta
from typing import Final

import structlog

from apps.access.models import ApiKey, Override
from apps.access.policy import Effect, Kind
from apps.core import clock
from apps.core.errors import InvalidRequest
from apps.core.globs import AGENT_GLOB

log = structlog.get_logger("agent.security")

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(days=90)  # whatever shall hold for longer is a grant

NAME_GLOB = re.compile(r"[^\s,;]+")  # over tool names and modules


def override(
    *, effect: Effect, about: Kind, pattern: str, ttl: timedelta, reason: str, author: str, key: ApiKey | None = None
) -> Override:
    """Make an override that is live in every worker within a second and ends by itself after `ttl`.

    Without a key it is for everyone. Raises InvalidRequest, which names the field, for what makes no sense.
    """
    check_glob(about, pattern)
    if not SHORTEST <= ttl <= LONGEST:
        raise InvalidRequest(f"An override lasts from a second to {LONGEST.days} days; grant what lasts.", param="ttl")
    if not reason.strip():
        raise InvalidRequest("Say why: whoever finds this override has to know.", param="reason")
    made = Override.objects.create(
        key=key,
        effect=effect,
        about=about,
        pattern=pattern,
        reason=reason.strip()[:200],
        author=author[:200],
        expires_at=clock.now() + ttl,
    )
    log.info("override_made", override=made.pk, rule=str(made), author=author, expires_at=made.expires_at.isoformat())
    return made


def check_glob(about: Kind, pattern: str) -> None:
    """Raises InvalidRequest for what is no glob over the names that a rule is about."""
    if not (AGENT_GLOB if about is Kind.AGENT else NAME_GLOB).fullmatch(pattern) or len(pattern) > 200:
        raise InvalidRequest(f"{pattern!r} is no glob over {about} names; * is any text.", param="pattern")


def end_override(made: Override, *, author: str, at: datetime) -> bool:
    """Take it back before its time; False when it has ended already."""
    if made.state(at) != "in force":
        return False
    made.ended_at = at
    made.save(update_fields=["ended_at"])
    log.info("override_ended", override=made.pk, rule=str(made), author=author)
    return True
