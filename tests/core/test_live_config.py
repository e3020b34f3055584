"""Snapshots of the configuration: memory only, whole, and new when the version row moved."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from apps.access.keys import find_key
from apps.access.models import ApiKey
from apps.core import live_config
from apps.core.models import ConfigVersion
from apps.upstreams.models import Upstream
from apps.upstreams.routing import route, upstreams
from tests.factories import ApiKeyFactory, UpstreamFactory
from tests.harness import eventually, forked
from tests.harness.processes import ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


def test_snapshot_is_read_without_the_database() -> None:
    ApiKeyFactory(credential="agw_1_of_the_tests")
    live_config.refresh()

    with CaptureQueriesContext(connection) as queries:
        key = find_key("agw_1_of_the_tests")
        upstreams.current()

    assert key is not None
    assert len(queries) == 0


def test_refresh_without_a_change_asks_one_question_and_keeps_the_snapshot() -> None:
    before = live_config.refresh()

    with CaptureQueriesContext(connection) as queries:
        after = live_config.refresh()

    assert after is before
    assert len(queries) == 1


def test_change_is_seen_by_the_next_refresh_and_not_before() -> None:
    live_config.refresh()
    ApiKeyFactory(credential="agw_2_of_the_tests")

    before = find_key("agw_2_of_the_tests")
    live_config.refresh()
    after = find_key("agw_2_of_the_tests")

    assert before is None
    assert after is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.save(),
        lambda key: ApiKey.objects.filter(pk=key.pk).revoke(datetime.now(UTC)),
        lambda key: ApiKey.objects.filter(pk=key.pk).update(name="another"),
        lambda key: ApiKey.objects.filter(pk=key.pk).delete(),
        lambda key: key.delete(),
        lambda key: ApiKey.objects.bulk_create([ApiKey(name="n", prefix="p", digest="d")]),
        lambda key: UpstreamFactory(),
    ],
    ids=["save", "revoke", "update", "delete-many", "delete", "bulk-create", "another-model"],
)
def test_every_way_of_writing_moves_the_version(change: Any) -> None:
    key = ApiKeyFactory()
    before = ConfigVersion.current()

    change(key)

    assert ConfigVersion.current() > before


def test_unpublished_update_does_not_move_the_version() -> None:
    key = ApiKeyFactory()
    before = ConfigVersion.current()

    ApiKey.objects.unpublished().filter(pk=key.pk).update(last_used_at=datetime.now(UTC))

    assert ConfigVersion.current() == before


def test_snapshot_holds_every_section() -> None:
    snapshot = live_config.refresh()

    assert set(snapshot.sections) >= {"access.keys", "upstreams.table", "catalog.settings"}
    assert isinstance(snapshot.sections["access.keys"], MappingProxyType)


def test_age_is_known() -> None:
    live_config.forget()
    before = live_config.seconds_since_check()
    live_config.refresh()

    assert before == float("inf")
    assert live_config.seconds_since_check() < 60


def test_default_upstream_is_the_one_marked() -> None:
    UpstreamFactory(slug="first", default_model="one")
    UpstreamFactory(slug="second", default_model="two", is_default=True)
    UpstreamFactory(slug="off", serves=["known"], enabled=False)
    live_config.refresh()

    found = [route(name) for name in (None, "unknown", "first/anything", "known")]

    assert [(one.target.slug, one.model) for one in found] == [
        ("second", "two"),
        ("second", "two"),
        ("first", "anything"),
        ("second", "two"),
    ]


def test_listed_model_goes_to_the_upstream_that_has_it() -> None:
    UpstreamFactory(slug="first", serves=["llama", "both"])
    UpstreamFactory(slug="second", serves=["qwen", "both"], is_default=True)
    live_config.refresh()

    found = {name: route(name).target.slug for name in ("llama", "qwen", "both")}

    assert found == {"llama": "first", "qwen": "second", "both": "second"}


def test_upstream_whose_secret_cannot_be_read_is_out_and_the_others_serve() -> None:
    UpstreamFactory(slug="bad", is_default=True)
    Upstream.objects.filter(slug="bad").update(encrypted_secret="garbage")
    UpstreamFactory(slug="good")

    live_config.refresh()

    assert list(upstreams.current().targets) == ["good"]


@pytest.mark.django_db(transaction=True)
def test_poller_follows_changes_and_survives_an_unreadable_database() -> None:
    poller = live_config.Poller(interval=0.02)
    poller.start()
    try:
        ApiKeyFactory(credential="agw_3_of_the_tests")
        eventually(lambda: find_key("agw_3_of_the_tests") is not None, True)

        failing = live_config.section("tests.failing", _failing, reads=[ApiKey])
        ApiKeyFactory(credential="agw_4_of_the_tests")
        del live_config._state.loaders[failing.name]
        eventually(lambda: find_key("agw_4_of_the_tests") is not None, True)
    finally:
        live_config._state.loaders.pop("tests.failing", None)
        poller.stop()


@pytest.mark.parametrize("fails_closed", [False, True])
def test_section_that_cannot_be_read_holds_up_the_others_only_if_it_fails_closed(fails_closed: bool) -> None:
    outcomes = iter(["before", ValueError("a row that nobody foresaw"), "after"])

    def load() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    section = live_config.section("tests.odd", load, reads=[Upstream], fails_closed=fails_closed)
    try:
        live_config.refresh()
        UpstreamFactory()
        ApiKeyFactory(credential="agw_5_of_the_tests")
        if fails_closed:
            with pytest.raises(ValueError, match="nobody foresaw"):
                live_config.refresh()
        else:
            live_config.refresh()
        assert (section.current(), find_key("agw_5_of_the_tests") is not None) == ("before", not fails_closed)

        UpstreamFactory()  # as who mends the row
        live_config.refresh()
        assert (section.current(), find_key("agw_5_of_the_tests") is not None) == ("after", True)
    finally:
        del live_config._state.loaders["tests.odd"]


def test_every_section_is_declared_before_a_worker_reads_its_first_snapshot() -> None:
    """One that a first request declares would drop the snapshot in the middle of it."""
    program = (
        "import django; django.setup(); from apps.core.live_config import _state; at_first = set(_state.loaders); "
        "import gateway_site.worker, gateway_site.urls; print(sorted(set(_state.loaders) - at_first))"
    )
    done = forked.run(["-c", program], folder=ROOT, environment=os.environ, timeout=60)

    assert (done.stdout.strip(), done.returncode) == ("[]", 0)


def _failing() -> Any:
    raise DatabaseError("unreadable")
