"""Persons behind a front end: Open WebUI's signed token, bare headers where a key trusts them, and what is theirs."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import jwt
import openai
import pytest

from tests.harness import GatewayServer, eventually

HI: Any = [{"role": "user", "content": "[[say=Hello.]]"}]
SECRET = "a shared secret of the front end and the gateway"
OTHER_SECRET = "another secret, as long as that of the front end"
BARE = {
    "X-OpenWebUI-User-Id": "user-7",
    "X-OpenWebUI-User-Email": "ann@example.com",
    "X-OpenWebUI-User-Name": "%C3%84nn",
    "X-OpenWebUI-User-Role": "user",
}
APPROVAL = (Path(__file__).parents[1] / "fixtures" / "dropin_agents" / "Approval" / "agent.py").read_text()
_numbers = count(1)


def token(secret: str = SECRET, *, algorithm: str = "HS256", **changes: Any) -> str:
    """As Open WebUI 0.12 signs it; a change to None leaves the claim out."""
    now = int(time.time())
    claims = {
        "sub": "user-7",
        "email": "ann@example.com",
        "name": "Ann",
        "role": "user",
        "iss": "open-webui",
        "iat": now,
        "exp": now + 300,
    } | changes
    given = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(given, secret if algorithm != "none" else "", algorithm=algorithm)


def signed(*args: Any, **changes: Any) -> dict[str, str]:
    return {"X-OpenWebUI-User-Jwt": token(*args, **changes)}


class Asking:
    """A key, and chats with it."""

    def __init__(
        self, gateway: GatewayServer, *, secret: str = "", model: str = "default/plain", **fields: Any
    ) -> None:
        self.gateway, self.model = gateway, model
        self.key = gateway.operator.issue_key(f"identity {next(_numbers)}", **fields)
        if secret:
            gateway.operator.sign_persons(self.key["id"], secret)
        good = signed() if secret else {}
        eventually(lambda: self.status(good), 200)
        if secret:
            eventually(lambda: self.status(signed(OTHER_SECRET)), 401)

    def chat(self, headers: dict[str, str], text: str = "[[say=Hello.]]") -> Any:
        messages: Any = [{"role": "user", "content": text}]
        client = self.gateway.openai(self.key["credential"])
        return client.chat.completions.create(model=self.model, messages=messages, extra_headers=headers)

    def status(self, headers: dict[str, str], text: str = "[[say=Hello.]]") -> int:
        try:
            self.chat(headers, text)
        except openai.APIStatusError as error:
            return error.status_code
        return 200

    def person(self, headers: dict[str, str]) -> tuple[str, str]:
        """Whom the run of a chat with these headers is said to be of."""
        request_id = f"identity-{next(_numbers)}"
        self.chat(headers | {"x-request-id": request_id})
        row = self.gateway.wait_for_run(request_id=request_id)
        return row["user_id"], row["user_name"]


@pytest.fixture(scope="module")
def signing(gateway: GatewayServer) -> Asking:
    return Asking(gateway, secret=SECRET)


@pytest.fixture(scope="module")
def trusting(gateway: GatewayServer) -> Asking:
    return Asking(gateway, trusts_identity_headers=True)


def test_signed_person_is_known(signing: Asking) -> None:
    assert signing.person(signed()) == ("user-7", "ann@example.com")


def test_signed_person_counts_and_bare_headers_beside_it_do_not(signing: Asking) -> None:
    assert signing.person(signed() | BARE | {"X-OpenWebUI-User-Id": "admin"}) == ("user-7", "ann@example.com")


@pytest.mark.parametrize(
    "headers",
    [
        lambda: signed(OTHER_SECRET),
        lambda: signed(exp=int(time.time()) - 60),
        lambda: signed(exp=None),
        lambda: signed(iss="someone-else"),
        lambda: signed(iss=None),
        lambda: signed(sub=None),
        lambda: signed(algorithm="none"),
        lambda: signed(algorithm="HS512"),
        lambda: {"X-OpenWebUI-User-Jwt": "nonsense"},
        lambda: {"X-OpenWebUI-User-Jwt": token()[:-4]},
        lambda: {"X-OpenWebUI-User-Jwt": token() + "x"},
        lambda: {"X-OpenWebUI-User-Jwt": token() + "." + token()},
        lambda: signed(OTHER_SECRET) | BARE,
        lambda: BARE,
    ],
    ids=[
        *(
            "other-secret",
            "expired",
            "no-expiry",
            "other-issuer",
            "no-issuer",
            "no-subject",
            "unsigned",
            "other-algorithm",
        ),
        *("nonsense", "cut-off", "longer", "doubled", "bad-and-bare", "bare-alone"),
    ],
)
def test_bad_or_missing_signature_is_refused_and_bare_headers_do_not_help(
    signing: Asking, headers: Callable[[], dict[str, str]]
) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        signing.chat(headers())

    assert caught.value.code == "invalid_identity"


def test_key_with_signed_persons_serves_requests_that_name_nobody(signing: Asking) -> None:
    assert signing.person({}) == ("", "")


def test_token_of_one_key_counts_for_no_other(signing: Asking, gateway: GatewayServer) -> None:
    other = Asking(gateway)

    assert other.person(signed() | BARE) == ("", "")


def test_trusted_front_ends_headers_count_and_are_decoded(trusting: Asking) -> None:
    only_name = {name: value for name, value in BARE.items() if "Email" not in name}

    assert (trusting.person(BARE), trusting.person(only_name)) == (("user-7", "ann@example.com"), ("user-7", "Änn"))


def test_headers_without_an_id_are_nobody(trusting: Asking) -> None:
    assert trusting.person({"X-OpenWebUI-User-Email": "ann@example.com"}) == ("", "")


def test_anybody_elses_headers_do_not_count(gateway: GatewayServer) -> None:
    assert Asking(gateway).person(BARE) == ("", "")


def test_secret_is_stored_encrypted_and_never_logged(signing: Asking) -> None:
    rows = signing.gateway.operator.rows("access.ApiKey", pk=signing.key["id"])
    signing.chat(signed())

    assert SECRET not in str(rows)
    assert [line for line in signing.gateway.errors if SECRET in line or token()[:40] in line] == []


@pytest.fixture
def launching(start_gateway: Callable[..., GatewayServer]) -> Asking:
    server = start_gateway(agents={"Approval": APPROVAL})
    return Asking(server, secret=SECRET, model="default/approval")


def test_approval_is_the_persons_who_was_asked(launching: Asking) -> None:
    """Another person behind the same key cannot decide, nor can a request that names nobody."""
    ann, bob = signed(), signed(sub="user-8", email="bob@example.com")
    asked = launching.chat(ann, '[[tool=launch]] [[args={"city": "Oslo"}]]').choices[0].message.content

    history: Any = [{"role": "user", "content": "Launch."}, {"role": "assistant", "content": asked}]
    client = launching.gateway.openai(launching.key["credential"])

    def approve(headers: dict[str, str]) -> Any:
        messages = [*history, {"role": "user", "content": "approve"}]
        return client.chat.completions.create(model="default/approval", messages=messages, extra_headers=headers)

    for headers in (bob, {}):
        with pytest.raises(openai.ConflictError) as caught:
            approve(headers)
        assert caught.value.code == "approval_closed"
    assert "Launched over Oslo." in approve(ann).choices[0].message.content
