"""Who may use what, at the door: grants, teams, overrides, rotation, and what happens while the database is away."""

from itertools import count
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest

from tests.conftest import PLAIN_AGENT
from tests.harness import DemoServer, FaultyServer, GatewayServer, eventually
from tests.harness.gateway import configure_upstreams
from tests.harness.scratch_database import scratch_database

HI: Any = [{"role": "user", "content": "[[say=Hello.]]"}]
_numbers = count(1)


def issue(gateway: GatewayServer, **fields: Any) -> dict[str, Any]:
    """A new key, which need not be live yet."""
    key: dict[str, Any] = gateway.operator.issue_key(f"access {next(_numbers)}", **fields)
    return key


def status(gateway: GatewayServer, key: dict[str, Any] | str, model: str = "default/plain", **headers: str) -> int:
    credential = key if isinstance(key, str) else key["credential"]
    try:
        gateway.openai(credential).chat.completions.create(model=model, messages=HI, extra_headers=headers)
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def refusal(gateway: GatewayServer, key: dict[str, Any], model: str = "default/plain") -> Any:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        gateway.openai(key["credential"]).chat.completions.create(model=model, messages=HI)
    return caught.value.body


def listed(gateway: GatewayServer, key: dict[str, Any]) -> list[str]:
    try:
        return sorted(one.id for one in gateway.openai(key["credential"]).models.list())
    except openai.APIStatusError as error:
        return [str(error.status_code)]


def test_grants_of_team_namespace_and_everyone_are_live_within_a_second(gateway: GatewayServer) -> None:
    team = gateway.operator.make("access.Team", name=f"Team {next(_numbers)}")
    key = issue(gateway, agents=[], team_id=team)
    eventually(lambda: listed(gateway, key), [])

    of_team = gateway.operator.make("access.Grant", team_id=team, effect="allow", agents="labs/planner")
    eventually(lambda: listed(gateway, key), ["labs/planner"])
    of_namespace = gateway.operator.make("access.Grant", namespace="labs", effect="allow", agents="*painter")
    eventually(lambda: listed(gateway, key), ["labs/painter", "labs/planner"])
    of_everyone = gateway.operator.make("access.Grant", effect="allow", agents="default/plain")
    eventually(lambda: listed(gateway, key), ["default/plain", "labs/painter", "labs/planner"])

    for grant in (of_team, of_namespace, of_everyone):
        gateway.operator.remove("access.Grant", grant)
    eventually(lambda: listed(gateway, key), [])


def test_denied_agent_is_refused_in_the_same_words_as_one_that_is_not_granted(gateway: GatewayServer) -> None:
    key = issue(gateway)
    eventually(lambda: status(gateway, key, "labs/planner"), 200)

    gateway.operator.make("access.Grant", key_id=key["id"], effect="deny", agents="labs/*")

    eventually(lambda: status(gateway, key, "labs/planner"), 403)
    assert (refusal(gateway, key, "labs/planner"), status(gateway, key)) == (
        {
            "message": "The API key may not use the agent 'labs/planner'.",
            "type": "permission_error",
            "param": "model",
            "code": "access_denied",
        },
        200,
    )


def test_decision_is_one_log_line_and_a_denial_is_kept_and_counted(gateway: GatewayServer) -> None:
    key = issue(gateway, agents=["labs/*"])
    eventually(lambda: status(gateway, key, "labs/planner"), 200)

    status(gateway, key, "default/plain", **{"x-request-id": "access-denied-1"})

    line = gateway.wait_for_log(event="agent.security.decision", request_id="access-denied-1")
    told = {name: line[name] for name in ("action", "target", "outcome", "code", "rule", "key_id", "user", "level")}
    assert told == {
        "action": "chat",
        "target": "default/plain",
        "outcome": "denied",
        "code": "no_grant",
        "rule": "",
        "key_id": key["id"],
        "user": "",
        "level": "warning",
    }
    kept = eventually(lambda: len(gateway.operator.rows("observability.ErrorEvent", request_id="access-denied-1")), 1)
    assert kept == 1
    allowed = gateway.log(event="agent.security.decision", key_id=key["id"], outcome="allowed", action="chat")
    assert {one["rule"].partition("-")[0] for one in allowed} == {"grant"}


def test_suspended_team_is_refused_at_once_and_let_in_again(gateway: GatewayServer) -> None:
    name = f"Team {next(_numbers)}"
    team = gateway.operator.make("access.Team", name=name)
    key = issue(gateway, team_id=team)
    eventually(lambda: status(gateway, key), 200)

    gateway.operator.change("access.Team", team, suspended=True, suspended_reason="Ask Ann.")
    eventually(lambda: (status(gateway, key), listed(gateway, key)), (403, ["403"]))
    told = refusal(gateway, key)["message"]
    gateway.operator.change("access.Team", team, suspended=False)

    eventually(lambda: status(gateway, key), 200)
    assert told == f"The team '{name}' is suspended: Ask Ann."


def test_override_allows_and_denies_and_expires_by_itself(gateway: GatewayServer) -> None:
    key = issue(gateway, agents=["labs/*"])
    eventually(lambda: status(gateway, key, "labs/planner"), 200)

    gateway.operator.override(effect="allow", pattern="default/plain", ttl=3, key_id=key["id"])
    gateway.operator.override(effect="deny", pattern="labs/planner", ttl=3, key_id=key["id"])

    eventually(lambda: (status(gateway, key), status(gateway, key, "labs/planner")), (200, 403))
    assert listed(gateway, key) == ["default/plain", "labs/painter"]
    eventually(lambda: (status(gateway, key), status(gateway, key, "labs/planner")), (403, 200), within=8)
    assert listed(gateway, key) == ["labs/painter", "labs/planner"]


def test_rotated_key_counts_beside_its_former_credential_until_that_ends(gateway: GatewayServer) -> None:
    key = issue(gateway)
    eventually(lambda: status(gateway, key), 200)

    new = gateway.operator.rotate_key(key["id"], overlap=3)

    eventually(lambda: (status(gateway, new), status(gateway, key)), (200, 200))
    eventually(lambda: (status(gateway, new), status(gateway, key)), (200, 401), within=8)


def test_key_counts_only_from_its_addresses_and_pages(gateway: GatewayServer) -> None:
    elsewhere = issue(gateway, ip_ranges=["192.0.2.0/24"])
    here = issue(gateway, ip_ranges=["127.0.0.0/8"])
    of_page = issue(gateway, origins=["https://chat.example.com"])

    eventually(lambda: (status(gateway, elsewhere), status(gateway, here)), (403, 200))
    with_origin = {"origin": "https://chat.example.com"}
    eventually(lambda: (status(gateway, of_page), status(gateway, of_page, **with_origin)), (403, 200))
    assert refusal(gateway, elsewhere)["message"] == "The API key may not be used from this address."


@pytest.mark.parametrize("asked", ["default/plain", "labs/planner", "labs/plainer", "nothing/at-all"])
def test_error_for_what_a_key_may_not_use_names_nothing_else(gateway: GatewayServer, asked: str) -> None:
    key = issue(gateway, agents=["default/tools"])
    eventually(lambda: listed(gateway, key), ["default/tools"])

    with pytest.raises(openai.APIStatusError) as caught:
        gateway.openai(key["credential"]).chat.completions.create(model=asked, messages=HI)

    others = [one.id for one in gateway.openai().models.list() if one.id not in (asked, "default/tools")]
    assert [id for id in others if f"'{id}'" in str(caught.value.body)] == []


def test_access_is_refused_while_the_database_is_away_and_given_again(
    tmp_path: Path, demo: DemoServer, faulty: FaultyServer
) -> None:
    """A revocation could not be heard of: keys and grants fail closed."""
    (tmp_path / "agents" / "Plain").mkdir(parents=True)
    source = PLAIN_AGENT.format(name="Plain", model="demo", tools="[]")
    (tmp_path / "agents" / "Plain" / "agent.py").write_text(source)
    with scratch_database() as url:
        settings = {"DATABASE_URL": url, "GATEWAY_ACCESS_MAX_AGE": "2"}
        with GatewayServer(tmp_path / "data", agents=tmp_path / "agents", **settings) as server:
            configure_upstreams(server.operator, demo, faulty)
            server.operator._stop()
            eventually(lambda: status(server, server.key), 200)

            with away(url):
                eventually(lambda: status(server, server.key), 503, within=10)
                answer = server.with_key("GET", "/v1/models")
                told = (answer.status, answer.error["code"], "retry-after" in answer.headers)
            eventually(lambda: status(server, server.key), 200, within=10)

    assert told == (503, "access_unknown", True)


class away:  # noqa: N801  # a context manager
    """The database lets nobody in, and whoever was in is out."""

    def __init__(self, url: str) -> None:
        server, _, self._name = url.rpartition("/")
        self._admin = psycopg.connect(f"{server}/postgres", autocommit=True)

    def __enter__(self) -> None:
        self._let_in(yes=False)
        self._admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._name])

    def __exit__(self, *_: object) -> None:
        self._let_in(yes=True)
        self._admin.close()

    def _let_in(self, *, yes: bool) -> None:
        self._admin.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS {yes}")  # type: ignore[arg-type]
