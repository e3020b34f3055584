"""The login form: guessing a password is bounded by address and user name, and by address alone."""

from itertools import count

import pytest
from django.contrib.auth.models import User
from django.test import Client

from apps.access import attempts
from apps.access.attempts import FREE, LOGINS
from apps.core.tally import Tally

pytestmark = pytest.mark.django_db

PASSWORD = "a long password for tests"
_addresses = (f"10.9.{n // 250}.{n % 250}" for n in count(1))


@pytest.fixture(autouse=True)
def _same_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the counts stands still, so that no minute ends within a test."""
    monkeypatch.setattr(attempts, "_logins", Tally(seconds=lambda: 600.0))


@pytest.fixture
def address() -> str:
    return next(_addresses)


@pytest.fixture(autouse=True)
def _user(db: None) -> None:
    User.objects.create_superuser("ann", password=PASSWORD)


def log_in(address: str, username: str = "ann", password: str = PASSWORD) -> str:
    """`in`, or what the form says."""
    answer = Client(REMOTE_ADDR=address).post("/admin/login/", {"username": username, "password": password})
    if answer.status_code == 302:
        return "in"
    (said,) = answer.context["form"].non_field_errors()
    return str(said)


def test_right_password_is_refused_too_after_ten_wrong_ones(address: str) -> None:
    wrong = {log_in(address, password="wrong") for _ in range(LOGINS)}

    refused = log_in(address)

    assert len(wrong) == 1
    assert refused.startswith("Too many failed attempts from your address. Try again in ")
    assert log_in(next(_addresses)) == "in"


def test_user_name_is_the_same_in_any_case(address: str) -> None:
    for number in range(LOGINS):
        log_in(address, "Ann" if number % 2 else "ANN", "wrong")

    assert log_in(address).startswith("Too many")


def test_others_at_the_address_may_log_in_until_it_failed_with_many_names(address: str) -> None:
    for _ in range(LOGINS):
        log_in(address, "bob", "wrong")
    once = log_in(address)

    for number in range(FREE - LOGINS):
        log_in(address, f"guess{number}", "wrong")

    assert (once, log_in(address).startswith("Too many")) == ("in", True)


def test_page_says_it(address: str) -> None:
    client = Client(REMOTE_ADDR=address)
    for _ in range(LOGINS + 1):
        answer = client.post("/admin/login/", {"username": "ann", "password": "wrong"})

    assert "Too many failed attempts from your address." in answer.content.decode()


def test_whoever_opens_the_login_page_itself_comes_to_the_dashboard(address: str) -> None:
    answer = Client(REMOTE_ADDR=address).post("/admin/login/", {"username": "ann", "password": PASSWORD})

    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
