"""Routes over upstreams that fail, as clients, the Run and the metrics see them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import write_agent
from tests.fakes import faulty_upstream as fake
from tests.harness import DemoServer, FaultyServer, GatewayServer, Template, eventually
from tests.harness.asking import ask_streamed, ask_whole

SAYS = "[[say=Here.]]"
# Agents, and the choices of the route that each one's model has: upstreams with their models.
ROUTES: dict[str, list[tuple[str, str]]] = {
    "careful": [("shaky", "status-500"), ("llm", "demo")],
    "unreachable": [("down", "any"), ("llm", "demo")],
    "begun": [("faulty", "cut"), ("llm", "demo")],
    "hopeless": [("faulty", "rate-limited"), ("down", "any")],
    "narrow": [("narrow", "demo")],
    "overflowing": [("narrow", "demo"), ("faulty", "ok")],
}


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, template: Template, demo: DemoServer, faulty: FaultyServer
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("routes")
    for name in ROUTES:
        write_agent(folder / "agents" / name, model=f"model-{name}")
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        operator = server.operator
        operator.put_upstream("shaky", kind="other", base_url=faulty.base_url, models=[], retries=1, cooldown=600)
        operator.put_upstream(
            "narrow", kind="other", base_url=demo.base_url, models=[], max_concurrency=1, queue_size=1
        )
        ids = {row["slug"]: row["id"] for row in operator.rows("upstreams.Upstream")}
        for name, choices in ROUTES.items():
            route = operator.make("upstreams.ModelRoute", pattern=f"model-{name}")
            for order, (slug, model) in enumerate(choices, start=1):
                operator.make("upstreams.RouteTarget", route_id=route, upstream_id=ids[slug], model=model, order=order)
        eventually(lambda: ask_whole(server.openai(), "default/unreachable", SAYS).content, "Here.")
        yield server


@pytest.fixture(scope="module")
def client(gateway: GatewayServer) -> openai.OpenAI:
    return gateway.openai()


@pytest.fixture(scope="module")
def metric(gateway: GatewayServer) -> Callable[..., dict[tuple[str, ...], float]]:
    """The samples of a metric by their labels, of one upstream."""
    key = gateway.operator.issue_key("Prometheus", may_administer=True)["credential"]
    headers = {"authorization": f"Bearer {key}"}
    eventually(lambda: gateway.request("GET", "/metrics/prometheus", headers=headers).status, 200)

    def read(name: str, upstream: str) -> dict[tuple[str, ...], float]:
        text = gateway.request("GET", "/metrics/prometheus", headers=headers).body.decode()
        found = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return {
            tuple(value for label, value in one.labels.items() if label != "upstream"): one.value
            for one in found
            if one.name == name and one.labels.get("upstream") == upstream
        }

    return read


def test_another_upstream_answers_and_stands_in_the_run(
    gateway: GatewayServer, client: openai.OpenAI, faulty: FaultyServer, metric: Any
) -> None:
    before = faulty.stats()["started"]

    for number in range(3):  # the second takes `shaky` down, the third passes it over
        told = ask_streamed(client, "default/careful", SAYS, extra_headers={"x-request-id": f"careful-{number}"})
        assert told.content == "Here."

    assert faulty.stats()["started"] - before == 4  # each of two calls tried twice
    for number in range(3):
        run = gateway.wait_for_run(request_id=f"careful-{number}")
        assert (run["upstream"], run["model"], run["outcome"], run["model_calls"], run["tokens_estimated"]) == (
            "llm", "demo", "completed", 1, False,
        )  # fmt: skip
    assert metric("gateway_upstream_state", "shaky") == {
        ("healthy",): 0, ("degraded",): 0, ("down",): 1, ("unknown",): 0,
    }  # fmt: skip
    assert metric("gateway_upstream_attempts_total", "shaky") == {("answered",): 0, ("failed",): 4}
    assert metric("gateway_upstream_retries_total", "shaky") == {(): 2}
    assert metric("gateway_upstream_failovers_total", "shaky") == {(): 2}
    assert metric("gateway_upstream_cooldowns_total", "shaky") == {(): 2}
    lines = gateway.log(event="upstream_state_changed", upstream="shaky")
    reason = "Upstream 'shaky' failed with status 500: The upstream says 500."
    assert [(line["was"], line["state"], line["reason"]) for line in lines] == [
        ("unknown", "degraded", reason),
        ("degraded", "down", reason),
    ]


def test_stream_that_has_begun_is_not_begun_again_elsewhere(
    gateway: GatewayServer, client: openai.OpenAI, demo: DemoServer
) -> None:
    before = demo.stats()["started"]

    with pytest.raises(openai.APIError) as caught:
        ask_streamed(client, "default/begun", SAYS, extra_headers={"x-request-id": "begun"})

    assert caught.value.code == "upstream_cut"
    assert demo.stats()["started"] == before
    run = gateway.wait_for_run(request_id="begun")
    assert (run["upstream"], run["model"], run["outcome"]) == ("faulty", "cut", "failed")


def test_client_is_told_when_to_come_again_where_nobody_answers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask_whole(client, "default/hopeless", SAYS)

    assert caught.value.response.headers["retry-after"] == "7"


def test_too_many_calls_are_refused_or_answered_elsewhere(client: openai.OpenAI, metric: Any) -> None:
    """One runs and one waits for as long as the first says its words."""
    slow = "[[words=40]] [[delay=0.05]]"
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask_streamed, client, "default/narrow", slow)
        eventually(lambda: metric("gateway_upstream_calls", "narrow")[("running",)], 1)
        second = pool.submit(ask_streamed, client, "default/narrow", SAYS)
        eventually(lambda: metric("gateway_upstream_calls", "narrow")[("waiting",)], 1)

        with pytest.raises(openai.RateLimitError) as caught:
            ask_whole(client, "default/narrow", SAYS)
        assert ask_whole(client, "default/overflowing", SAYS).content == fake.TEXT

        assert caught.value.body == {
            "message": "Upstream 'narrow' is busy: 1 running and 1 waiting. Try again later, or let it take more "
            "calls at once in the admin.",
            "type": "rate_limit_error",
            "param": None,
            "code": "upstream_busy",
        }
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
        assert (len(first.result().content.split()), second.result().content) == (40, "Here.")
    assert metric("gateway_upstream_calls", "narrow") == {("running",): 0, ("waiting",): 0}
