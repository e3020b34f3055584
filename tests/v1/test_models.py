"""GET /v1/models and GET /v1/models/{id}."""

import openai
import pytest

from tests.harness import GatewayServer


def test_models_lists_what_chat_uis_show(gateway: GatewayServer) -> None:
    answer = gateway.with_key("GET", "/v1/models").json()

    assert list(answer) == ["object", "data"]
    assert answer["object"] == "list"
    (plain,) = [one for one in answer["data"] if one["id"] == "default/plain"]
    written = int((gateway.agents / "Plain" / "agent.py").stat().st_mtime)
    version = plain["info"]["meta"].pop("version")
    assert len(version) == 12
    assert plain == {
        "id": "default/plain",
        "object": "model",
        "created": written,
        "owned_by": "agent-gateway",
        "name": "Plain Speaker",
        "description": "Answers in plain words.",
        "info": {
            "meta": {
                "description": "Answers in plain words.",
                "capabilities": {"builtin_tools": False, "usage": True, "vision": True, "file_upload": True},
                "stale": False,
                "pinned": False,
            }
        },
    }


def test_models_lists_every_agent_once_and_none_that_cannot_serve(
    gateway: GatewayServer, client: openai.OpenAI
) -> None:
    expected = {f"{path.parent.parent.name}/{path.parent.name.lower()}" for path in gateway.agents.rglob("agent.py")}
    expected = {id.replace("agents/", "default/") for id in expected}
    expected -= {"default/broken", "default/hosted", "default/disabled"}

    assert sorted(one.id for one in client.models.list()) == sorted(expected)


def test_model_is_retrieved_by_its_id_with_a_slash(gateway: GatewayServer, client: openai.OpenAI) -> None:
    one = client.models.retrieve("default/plain")

    listed = {model.id: model for model in client.models.list()}
    assert one == listed["default/plain"]


def test_model_is_retrieved_by_an_encoded_slash_too(gateway: GatewayServer) -> None:
    answer = gateway.with_key("GET", "/v1/models/default%2Fplain")

    assert (answer.status, answer.json()["id"]) == (200, "default/plain")


def test_model_that_does_not_exist_is_not_found_and_names_near_ones(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("default/plane")

    error = dict(caught.value.body)  # type: ignore[call-overload]
    assert error.pop("message").startswith("The model 'default/plane' does not exist. Did you mean 'default/plain'")
    assert error == {
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_name_of_several_agents_is_refused_with_their_ids(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("Guarded")

    message = dict(caught.value.body)["message"]  # type: ignore[call-overload]
    assert message == (
        "The model 'Guarded' may mean 'default/guardblocking', 'default/guardparallel' or 'default/toolguardinput'. "
        "Use one id."
    )


def test_model_that_is_disabled_or_broken_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as disabled:
        client.models.retrieve("default/disabled")
    with pytest.raises(openai.InternalServerError) as broken:
        client.models.retrieve("default/broken")

    assert (disabled.value.status_code, disabled.value.code) == (503, "agent_disabled")
    assert (broken.value.status_code, broken.value.code) == (503, "agent_broken")
