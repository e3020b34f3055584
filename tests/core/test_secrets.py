"""Upstream secrets at rest."""

from typing import Any

import pytest

from apps.core import secrets
from apps.upstreams.models import Upstream
from tests.factories import UpstreamFactory


def test_secret_comes_back_as_it_was() -> None:
    stored = secrets.encrypt("sk-ключ-🔑")

    assert secrets.decrypt(stored) == "sk-ключ-🔑"
    assert "sk-" not in stored


def test_secret_is_never_stored_twice_alike() -> None:
    assert secrets.encrypt("sk-1") != secrets.encrypt("sk-1")


def test_secret_is_unreadable_under_another_key(settings: Any) -> None:
    stored = secrets.encrypt("sk-1")
    settings.SECRET_KEY = "another installation's"

    with pytest.raises(secrets.SecretUnreadable) as caught:
        secrets.decrypt(stored)

    assert str(caught.value) == (
        "A stored secret cannot be read: it was encrypted under another secret key. "
        "Restore the file `secret_key` of the data folder (or GATEWAY_SECRET_KEY), or enter the secret again."
    )


@pytest.mark.parametrize("stored", ["", "garbage", "gAAAAA=="])
def test_what_is_no_secret_is_unreadable(stored: str) -> None:
    with pytest.raises(secrets.SecretUnreadable):
        secrets.decrypt(stored)


@pytest.mark.django_db
def test_upstreams_secret_is_encrypted_in_its_row() -> None:
    upstream = UpstreamFactory(secret="sk-in-the-clear")

    stored = Upstream.objects.values_list("encrypted_secret", flat=True).get(pk=upstream.pk)
    assert "sk-in-the-clear" not in stored
    assert Upstream.objects.get(pk=upstream.pk).secret == "sk-in-the-clear"


@pytest.mark.django_db
def test_upstream_without_a_secret_has_none() -> None:
    assert UpstreamFactory(secret="").encrypted_secret == ""
