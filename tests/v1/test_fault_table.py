"""Every fault of tests/fakes/faulty_upstream.py, met by each kind of model, streamed and whole: what the client is told,
and that its Run says the same.

`faulty/<fault>` is a module, `declared/<fault>` an agent of the admin, `raw/<fault>` the model passed through. What else
can be said of a fault stands in test_upstream_faults.py, test_declared_faults.py and test_pass_through.py.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.fakes import faulty_upstream as fake
from tests.harness import FaultyServer, GatewayServer, RawServer, eventually
from tests.harness.asking import deltas, messages_of
from tests.harness.upstreams import LLMServer

WORDS = {
    "split-utf8": fake.EMOJI_TEXT,
    "u2028": fake.LINE_SEPARATOR_TEXT,
    "flood": "x" * fake.FLOOD,
    "big-chunk": "x" * fake.BIG,
    "content-filter": fake.PIECES[0],
    "refusal": "",
    "empty": "",
    "nul": fake.TEXT.replace("Hello", "Hello\0"),
}
NOT_BEGUN = {  # the answer to these ends before it has begun, with this code
    "status-400": "upstream_rejected",
    "status-401": "upstream_unauthorised",
    "status-403": "upstream_unauthorised",
    "status-404": "upstream_rejected",
    "status-413": "upstream_rejected",
    "status-500": "upstream_error",
    "status-503": "upstream_error",
    "rate-limited": "rate_limit_exceeded",
    "rate-limited-date": "rate_limit_exceeded",
    "again-never": "rate_limit_exceeded",
    "again-odd": "rate_limit_exceeded",
    "overloaded": "upstream_error",
    "drops": "upstream_unreachable",
    "cut-at-once": "upstream_cut",
    "hang-at-once": "upstream_timeout",
    "slow-headers": "upstream_timeout",
    "error-first": "upstream_error",
    "html": "upstream_error",
    "garbage": "upstream_garbage",
    "detail-error": "upstream_rejected",
    "text-error": "upstream_error",
    "redirect": "upstream_error",
    "no-content": "upstream_error",
    "header-bomb": "upstream_garbage",
    "bad-gzip": "upstream_cut",
    "gzip-bomb": "upstream_error",
    "nan": "upstream_garbage",
    "deep": "upstream_garbage",
    "raw-nul": "upstream_garbage",
    "deep-refusal": "upstream_rejected",
    "refusal-in-pieces": "upstream_rejected",
    "refusal-with-nul": "upstream_rejected",
}
FAULTS = [*fake.FAULTS, "slow-headers"]
BROKEN = {  # these break off: what came before, streamed, and the code
    "cut": ("Hello from the", "upstream_cut"),
    "cut-clean": ("Hello from the", "upstream_cut"),
    "bad-chunk-length": ("Hello from the", "upstream_cut"),
    "hang": ("Hello from the", "upstream_silent"),
    "hang-in-arguments": ("Hello", "upstream_silent"),
    "error-in-stream": ("Hello", "upstream_error"),
    "error-line": ("Hello", "upstream_error"),
    "garbage-later": ("Hello", "upstream_garbage"),
}


@pytest.fixture(scope="module", autouse=True)
def _agents(gateway: GatewayServer) -> Iterator[None]:
    """A declared agent for each fault; gone afterwards."""
    put = gateway.operator
    made = [
        put.make("catalog.DeclaredAgent", namespace="declared", name=fault, stage="live", model=f"faulty/{fault}")
        for fault in FAULTS
    ]
    listed = gateway.openai().models.list
    eventually(lambda: sum(one.id.startswith("declared/") for one in listed()), len(FAULTS), within=20)
    yield
    for id in made:
        put.remove("catalog.DeclaredAgent", id)


def streamed(client: openai.OpenAI, model: str, said: list[str], headers: Any) -> None:
    stream = client.chat.completions.create(model=model, messages=messages_of("Hi"), stream=True, extra_headers=headers)
    said.extend(piece for chunk in stream for piece in deltas([chunk], "content"))


def whole(client: openai.OpenAI, model: str, said: list[str], headers: Any) -> None:
    answer = client.chat.completions.create(model=model, messages=messages_of("Hi"), extra_headers=headers)
    said.append(answer.choices[0].message.content or "")


def met(server: GatewayServer, way: str, ask: Callable[..., None], fault: str) -> tuple[str, str]:
    """The text that the client got, and the code of its error, which its Run has to tell as well."""
    identifier = f"table-{way}-{ask.__name__}-{fault}"
    said: list[str] = []
    code = ""
    try:
        ask(server.openai(), f"{way}/{fault}", said, {"x-request-id": identifier})
    except openai.APIError as error:
        code = error.code or "none"
    run = server.wait_for_run(request_id=identifier)
    assert (run["error_code"], run["outcome"] == "failed") == (code, code != ""), fault
    assert 0 <= run["prompt_tokens"] < 2**31 > run["completion_tokens"] >= 0, fault
    return "".join(said), code


@pytest.mark.parametrize("ask", [streamed, whole])
@pytest.mark.parametrize("way", ["faulty", "declared", "raw"])
def test_fault_is_answered_or_told_and_stands_in_its_run(
    gateway: GatewayServer,
    passing: GatewayServer,
    faulty: FaultyServer,
    raw: RawServer,
    way: str,
    ask: Callable[..., None],
) -> None:
    server: GatewayServer = passing if way == "raw" else gateway
    upstream: LLMServer = raw if way == "raw" else faulty

    with ThreadPoolExecutor(6) as pool:
        told = dict(zip(FAULTS, pool.map(lambda fault: met(server, way, ask, fault), FAULTS), strict=True))

    import json, sys

    open(f"/tmp/told-{way}-{ask.__name__}.json", "w").write(json.dumps(told))
    eventually(upstream.active, 0)
    eventually(lambda: upstream.stats()["connections"], 1, within=20)  # the one that asks
