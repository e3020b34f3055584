import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.redaction import _NAMED, _SHAPED, MASK, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key agw_tests_0123456789abcdef is wrong", "key ••• is wrong"),
        ("Incorrect API key provided: sk-proj-abcDEF123456789_x.", "Incorrect API key provided: •••."),
        ("Authorization: Bearer abc.def-123456", "Authorization: •••"),
        ("sent bearer abcdef123456 along", "sent bearer ••• along"),
        ('{"api_key": "x y", "name": "z"}', '{"api_key": •••, "name": "z"}'),
        ("password=hunter2&next=1", "password=•••&next=1"),
        ("postgres://gateway:hunter2@db:5432/x", "postgres://•••@db:5432/x"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln ends", "token ••• ends"),
        ("AKIAIOSFODNN7EXAMPLE and ghp_0123456789abcdefABCDEF", "••• and •••"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----.", "•••."),
    ],
)
def test_credential_is_masked(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    ["The model 'gpt-4o' does not exist.", "1,234 tokens at 10:30", "max_tokens: 100", "a sk-y text", "http://h:80/x"],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text


_PIECES = (
    "password", "PassWd", "\u017fecret", "to\u212aen", "api", "_", "-", "key", "KEY", "access", "auth", "token",
    "credent\u0130al", "authorization", "Cookie", "agw_", "sk-", "rk_", "gho_", "ghx_", "github_pat_", "glpat-",
    "xoxb-", "hf_", "AKIA", "AIza", "eyJ", ".", "-----BEGIN ", "RSA PRIVATE KEY-----", "://", "a:b@", "BEARER ",
    "bearer", " ", ": ", "=", '"', "0123456789ABCDEF", "abcdefgh", "Stra\u00dfe", "\n",
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=4), max_size=12).map("".join))
def test_text_that_is_not_looked_at_closely_holds_nothing(text: str) -> None:
    assert redacted(text) == _SHAPED.sub(MASK, _NAMED.sub(rf"\1{MASK}", text))


def test_long_text_takes_no_time() -> None:
    assert redacted("a" * 200_000 + " password") == "a" * 200_000 + " password"
