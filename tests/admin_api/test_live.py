"""The operators' API beside real requests: what it says is what they meet."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.harness import GatewayServer, eventually

PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'
HI: Any = [{"role": "user", "content": "[[say=Hello.]]"}]
DENY = {"effect": "deny", "pattern": "default/plain", "ttl": 600, "reason": "maintenance"}


class Operator:
    def __init__(self, server: GatewayServer) -> None:
        self._server = server
        issued = server.operator.issue_key("Automation", may_administer=True, may_chat=False)
        self.id, self._key = issued["id"], issued["credential"]
        eventually(lambda: self.ask("GET", "/security/overrides")[0], 200)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        sent = json.dumps(body).encode() if body else None
        answer = self._server.request(
            method, path, body=sent, headers={"x-api-key": self._key, "content-type": "application/json"}
        )
        return answer.status, answer.json()


@pytest.fixture
def server(start_gateway: Callable[..., GatewayServer]) -> GatewayServer:
    return start_gateway(agents={"Plain": PLAIN})


def test_override_is_met_foretold_told_of_and_taken_back(server: GatewayServer) -> None:
    operator = Operator(server)
    issued = server.operator.issue_key("Open WebUI")
    client = server.openai(issued["credential"])

    def chat() -> str:
        try:
            client.chat.completions.create(model="default/plain", messages=HI)
        except openai.APIStatusError as error:
            return str(error.code)
        return "answered"

    def foretold(**supposing: Any) -> Any:
        question = {"key": issued["id"], "agent": "default/plain", **supposing}
        return operator.ask("POST", "/security/preview", question)[1]

    eventually(chat, "answered")
    supposed = foretold(supposing=[{name: DENY[name] for name in ("effect", "pattern", "ttl")}])
    assert (foretold()["allowed"], supposed["allowed"]) == (True, False)

    status, override = operator.ask("POST", "/security/override", {**DENY, "key": issued["id"]})
    assert status == 201
    eventually(chat, "access_denied")
    assert foretold()["rule"]["id"] == f"override-{override['id']}"

    def denials() -> list[tuple[str, str, str]]:
        _, answer = operator.ask("GET", f"/security/decisions?key_id={issued['id']}&agent=default/plain")
        return [(one["code"], one["action"], one["rule"]) for one in answer["data"]]

    eventually(denials, [("denied", "chat", f"override-{override['id']}")])

    assert operator.ask("DELETE", f"/security/overrides/{override['id']}")[0] == 200
    eventually(chat, "answered")
    _, changes = operator.ask("GET", f"/security/changes?type=access.override&id={override['id']}")
    signed = {"name": "Automation", "user_id": None, "key_id": operator.id, "address": "127.0.0.1"}
    assert [(one["action"], one["author"]) for one in changes["data"]] == [("update", signed), ("create", signed)]
    assert [one["field"] for one in changes["data"][0]["changes"]] == ["ended_at"]


def test_refresh_is_answered_by_a_worker_of_the_server(server: GatewayServer) -> None:
    operator = Operator(server)

    status, state = operator.ask("POST", "/security/refresh")

    assert (status, state["worker"], state["keys"]["active"], state["keys"]["revoked"]) == (200, server.pid, 2, 0)


def test_operators_requests_have_ids_in_answer_and_log(gateway: GatewayServer) -> None:
    key = gateway.operator.issue_key("Operator with an id", may_administer=True)["credential"]
    headers = {"x-api-key": key, "x-request-id": "operators-1"}

    answer = eventually(lambda: gateway.request("GET", "/security/overrides", headers=headers).status, 200)
    told = gateway.request("GET", "/security/overrides", headers=headers)

    assert (answer, told.headers["x-request-id"]) == (200, "operators-1")
    assert gateway.wait_for_log(event="agent.security.decision", request_id="operators-1")["action"] == "administer"
