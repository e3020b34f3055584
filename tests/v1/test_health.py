"""GET /health and GET /ready: no key needed, and no line in the log."""

from tests.harness import GatewayServer


def test_health_says_that_the_process_lives(gateway: GatewayServer) -> None:
    answer = gateway.request("GET", "/health")

    assert (answer.status, answer.json()) == (200, {"status": "ok"})


def test_ready_says_that_the_worker_serves(gateway: GatewayServer) -> None:
    answer = gateway.request("GET", "/ready")

    assert (answer.status, answer.json()) == (200, {"status": "ready", "reason": ""})


def test_health_checks_are_not_logged(gateway: GatewayServer) -> None:
    gateway.request("GET", "/health")
    gateway.request("GET", "/ready")
    gateway.with_key("GET", "/v1/models", x_request_id="after-health")

    gateway.wait_for_log(event="request_finished", request_id="after-health")
    assert [*gateway.log(path="/health"), *gateway.log(path="/ready")] == []


def test_health_takes_no_other_method(gateway: GatewayServer) -> None:
    answer = gateway.request("POST", "/health", body=b"")

    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
