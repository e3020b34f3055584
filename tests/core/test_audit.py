"""The history of changes: what is in it, whose name stands there, and what never stands there."""

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.apps import apps
from django.core import serializers
from django.core.management import call_command
from django.db.models import QuerySet

from apps.access.keys import digest, issue_key, rotate_key
from apps.access.models import ApiKey
from apps.catalog.admin import set_enabled
from apps.catalog.models import AgentSettings, AgentVersion, DropIn, PinnedVersion
from apps.catalog.versions import follow_folder, put_back
from apps.core import audit, clock, live_config
from apps.core.audit import Author, Change, written_by
from apps.core.models import ConfigModel
from apps.upstreams.models import Upstream, UpstreamModel
from apps.upstreams.probe import store_models
from tests.factories import ApiKeyFactory, DropInFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

NOT_AUDITED = {UpstreamModel}  # what a server said that it has, not what somebody decided
SECRETS = ["upstream-secret-1", "upstream-secret-2", "identity-secret-1", "identity-secret-2"]


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


def history(model: type[Any], **filters: Any) -> QuerySet[LogEntry]:
    entries: QuerySet[LogEntry] = LogEntry.objects.get_for_model(model).filter(**filters).order_by("pk")
    return entries


def updates(model: type[Any]) -> list[tuple[str, list[Change]]]:
    entries = history(model, action=LogEntry.Action.UPDATE)
    return [(entry.object_repr, audit.changes(entry)) for entry in entries]


def test_every_model_of_configuration_is_audited_but_those_named_here() -> None:
    configuration = {model for model in apps.get_models() if issubclass(model, ConfigModel)}

    assert {model for model in configuration if not auditlog.contains(model)} == NOT_AUDITED


def test_no_secret_credential_or_digest_ever_stands_in_it() -> None:
    key, credential = issue_key("Open WebUI")
    second = rotate_key(key, at=clock.now())
    third = rotate_key(key, at=clock.now())
    upstream = UpstreamFactory.create(secret=SECRETS[0])
    upstream.secret = SECRETS[1]
    upstream.save()
    sealed = []
    for secret in SECRETS[2:]:
        key.set_identity_secret(secret)
        key.save()
        sealed.append(key.encrypted_identity_secret)
    key.delete()
    upstream.delete()

    table = serializers.serialize("json", LogEntry.objects.all())

    credentials = [credential, second, third]
    never = [*SECRETS, *sealed, upstream.encrypted_secret, *credentials, *map(digest, credentials)]
    assert [one for one in never if one in table] == []
    assert [one[12:] for one in credentials if one[13:] in table] == []


def test_secret_that_was_set_is_told_as_one() -> None:
    upstream = UpstreamFactory.create(secret="")
    for secret in (SECRETS[0], SECRETS[1], ""):
        upstream.secret = secret
        upstream.save()

    assert updates(Upstream) == [
        (upstream.slug, [Change("encrypted_secret", "", "•••")]),
        (upstream.slug, [Change("encrypted_secret", "•••", "•••")]),
        (upstream.slug, [Change("encrypted_secret", "•••", "")]),
    ]


def test_rotation_is_told_without_the_digests() -> None:
    key, _ = issue_key("Open WebUI")
    before, at = key.prefix, clock.now()

    rotate_key(key, at=at, overlap=timedelta(0))

    ((_, told),) = updates(ApiKey)
    until = at.isoformat().replace("+00:00", "Z")
    assert told == [Change("prefix", before, key.prefix), Change("previous_until", None, until)]


def test_use_and_health_are_no_changes() -> None:
    key, upstream = ApiKeyFactory.create(), UpstreamFactory.create(default_model="demo")
    known = LogEntry.objects.count()

    key.last_used_at = clock.now()
    key.save()
    store_models(upstream, ["demo", "other"])

    assert LogEntry.objects.count() == known


# --- the verbs over many rows ----------------------------------------------------------------------------------------


def test_each_revoked_key_has_an_entry() -> None:
    keys = ApiKeyFactory.create_batch(3)
    at = clock.now()

    ApiKey.objects.all().revoke(at)

    told = [Change("revoked_at", None, at.isoformat().replace("+00:00", "Z"))]
    assert sorted(updates(ApiKey), key=str) == sorted([(str(key), told) for key in keys], key=str)


def test_each_enabled_agent_has_an_entry() -> None:
    known, new = DropInFactory.create(agent_id="default/a"), DropInFactory.create(agent_id="default/b")
    AgentSettings.objects.create(drop_in=known)
    LogEntry.objects.all().delete()

    set_enabled(DropIn.objects.all(), enabled=False)

    assert updates(AgentSettings) == [("settings of default/a", [Change("enabled", True, False)])]
    (created,) = history(AgentSettings, action=LogEntry.Action.CREATE)
    assert {"drop_in": (None, "default/b"), "enabled": (None, False)}.items() <= {
        one.field: (one.old, one.new) for one in audit.changes(created)
    }.items()
    assert new.settings.enabled is False


def test_former_default_upstream_has_an_entry_too() -> None:
    former, next_one = UpstreamFactory.create(slug="a", is_default=True), UpstreamFactory.create(slug="b")

    next_one.make_default()

    assert updates(Upstream) == [
        (former.slug, [Change("is_default", True, False)]),
        (next_one.slug, [Change("is_default", False, True)]),
    ]


def test_model_that_an_upstream_got_by_itself_has_an_entry() -> None:
    upstream = UpstreamFactory.create(default_model="")

    store_models(upstream, ["gpt-oss"])

    assert updates(Upstream) == [(upstream.slug, [Change("default_model", "", "gpt-oss")])]


def test_pins_and_their_end_have_entries() -> None:
    now = clock.now()
    AgentVersion.objects.create(
        folder_id="default/a", digest="d" * 64, archive=b"x", size=1, file_count=1, first_loaded_at=now,
        last_loaded_at=now,
    )  # fmt: skip

    put_back("default/a", "d" * 64)
    follow_folder("default/a")

    assert [entry.action for entry in history(PinnedVersion)] == [LogEntry.Action.CREATE, LogEntry.Action.DELETE]


# --- who -------------------------------------------------------------------------------------------------------------


def test_command_signs_as_such() -> None:
    call_command("issue_key", "by command", stdout=StringIO(), stderr=StringIO())

    assert {str(entry.additional_data) for entry in LogEntry.objects.all()} == {"{'author': 'command'}"}


def test_author_within_another_comes_back() -> None:
    with written_by(lambda: Author("outer", address="10.0.0.1")):
        with written_by(lambda: Author("inner", key_id=7)):
            ApiKeyFactory.create(agents=[])
        ApiKeyFactory.create(agents=[])

    assert [entry.additional_data for entry in history(ApiKey)] == [
        {"author": "inner", "key_id": 7},
        {"author": "outer", "address": "10.0.0.1"},
    ]
