"""/docs and /openapi.json."""

import re
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.harness import GatewayServer


@pytest.fixture(scope="module")
def described(gateway: GatewayServer) -> Any:
    answer = gateway.request("GET", "/openapi.json")
    assert answer.status == 200
    return answer.json()


def test_docs_page_needs_nothing_from_other_hosts(gateway: GatewayServer) -> None:
    page = gateway.request("GET", "/docs")

    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    linked = re.findall(r"""(?:src|href)=["']([^"']+)["']""", text)
    assert len(linked) > 0
    assert [one for one in linked if urljoin(gateway.url, one).startswith(gateway.url) is False] == []
    assert [one for one in linked if gateway.request("GET", one).status != 200] == []
    assert "http://" not in text.replace(gateway.url, "")
    assert "https://" not in text


def test_openapi_describes_the_endpoints(described: Any) -> None:
    operations = {(path, method) for path, item in described["paths"].items() for method in item}

    assert operations == {
        ("/v1/chat/completions", "post"),
        ("/v1/completions", "post"),
        ("/v1/embeddings", "post"),
        ("/v1/models", "get"),
        ("/v1/models/{model}", "get"),
        ("/health", "get"),
        ("/ready", "get"),
        ("/admin/agents/errors", "get"),
        ("/admin/agents/declared", "get"),
        ("/admin/agents/declared", "post"),
        *(("/admin/agents/declared/{namespace}/{name}", method) for method in ("get", "put", "patch", "delete")),
        ("/admin/agents/declared/{namespace}/{name}/versions", "get"),
        ("/admin/agents/declared/{namespace}/{name}/versions/{number}/return", "post"),
        ("/agents", "get"),
        ("/agents/refresh", "post"),
        ("/admin/agents", "get"),
        ("/admin/audits", "get"),
        ("/admin/findings", "get"),
        ("/admin/keys", "get"),
        ("/admin/keys", "post"),
        ("/admin/keys/{key_id}", "get"),
        ("/admin/keys/{key_id}/revoke", "post"),
        ("/admin/keys/{key_id}/rotate", "post"),
        ("/admin/metrics", "get"),
        ("/admin/runs", "get"),
        ("/admin/runs/{run_id}", "get"),
        ("/metrics", "get"),
        ("/metrics/prometheus", "get"),
        ("/security/preview", "post"),
        ("/security/override", "post"),
        ("/security/overrides", "get"),
        ("/security/overrides/{override_id}", "delete"),
        ("/security/refresh", "post"),
        ("/security/decisions", "get"),
        ("/security/changes", "get"),
        ("/upstreams", "get"),
        ("/upstreams/refresh", "post"),
        ("/tools", "get"),
        ("/tools/refresh", "post"),
    }


@pytest.mark.parametrize(
    ("path", "method", "schema"),
    [
        ("/v1/chat/completions", "post", "ChatCompletion"),
        ("/v1/completions", "post", "Completion"),
        ("/v1/embeddings", "post", "EmbeddingList"),
        ("/v1/models", "get", "ModelList"),
        ("/v1/models/{model}", "get", "Model"),
    ],
)
def test_openapi_describes_answers_and_the_shape_of_errors(described: Any, path: str, method: str, schema: str) -> None:
    responses = described["paths"][path][method]["responses"]

    shapes = {status: one["content"]["application/json"]["schema"]["$ref"] for status, one in responses.items()}
    error = "#/components/schemas/ErrorBody"
    assert shapes == {
        "200": f"#/components/schemas/{schema}",
        **dict.fromkeys(["400", "401", "403", "404", "413", "429", "502", "503", "504"], error),
    }
    detail = described["components"]["schemas"]["ErrorDetail"]
    assert detail["required"] == ["message", "type", "param", "code"]


def test_openapi_describes_the_request_with_every_parameter_that_is_honoured(described: Any) -> None:
    schema = described["components"]["schemas"]["ChatCompletionRequest"]

    assert schema["required"] == ["model", "messages"]
    honoured = {
        "model", "messages", "stream", "stream_options", "temperature", "top_p", "frequency_penalty",
        "presence_penalty", "max_tokens", "max_completion_tokens", "parallel_tool_calls", "reasoning_effort",
        "verbosity", "metadata", "stop", "seed", "logit_bias", "response_format", "user",
    }  # fmt: skip
    assert honoured - schema["properties"].keys() == set()


def test_openapi_says_how_a_key_is_given(described: Any) -> None:
    schemes = described["components"]["securitySchemes"]

    assert list(schemes.values()) == [{"type": "http", "scheme": "bearer"}] * 2  # clients' keys and operators' keys
    open_to_all = {
        path for path, item in described["paths"].items() for method in item if "security" not in item[method]
    }
    assert open_to_all == {"/health", "/ready"}
