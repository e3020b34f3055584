"""The gateway before llama.cpp's own server: a real LLM server, which does as it likes, with a model of a megabyte."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import write_agent
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole

pytest.importorskip("xllamacpp", reason="needs llama.cpp's server: make llm")
pytest.importorskip("gguf", reason="writes a model for llama.cpp's server: make llm")

from apps.upstreams import probe
from apps.upstreams.detect import Candidate, detect_upstreams
from apps.upstreams.models import Kind, Upstream
from tests.harness.llama_model import NAME, SENTENCE, SENTENCE_TOKENS, write_model
from tests.harness.llama_server import LlamaServer

CONTEXT = 16_384


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def llama(model: Path) -> Iterator[LlamaServer]:
    with LlamaServer(model, context=CONTEXT) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template, llama: LlamaServer) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("llama")
    write_agent(folder / "agents" / "Weather", model=f"llama/{NAME}")
    write_agent(folder / "agents" / "Fixed", model=f"fragile/{NAME}")
    with GatewayServer(
        folder / "data", agents=folder / "agents", template=template, GATEWAY_UPSTREAM_REFRESH="1"
    ) as gateway:
        gateway.operator.put_upstream("llama", kind="llama_cpp", base_url=llama.base_url, **switches())
        eventually(lambda: said(gateway, "default/weather"), SENTENCE)
        yield gateway


def switches() -> dict[str, Any]:
    from apps.upstreams.detect import PRESETS

    return dict(PRESETS[Kind.LLAMA_CPP])


def said(gateway: GatewayServer, agent: str) -> str:
    """What the agent says, or the error's code."""
    try:
        return ask_whole(gateway.openai(), agent, "Hello?").content.strip()
    except openai.APIStatusError as error:
        return str(error.code)


def shown(gateway: GatewayServer, name: str) -> dict[str, Any]:
    """The upstream as GET /upstreams has it."""
    key = gateway.operator.issue_key("Operator", may_administer=True)["credential"]
    headers = {"x-api-key": key}
    eventually(lambda: gateway.request("GET", "/upstreams", headers=headers).status, 200)
    rows: list[dict[str, Any]] = gateway.request("GET", "/upstreams", headers=headers).json()["data"]
    (found,) = [row for row in rows if row["name"] == name]
    return found


def test_answer_is_what_the_model_says(server: GatewayServer, ask: Ask) -> None:
    told = ask(server.openai(), "default/weather", "Hello?")

    # Every byte of the prompt is a token, and so is the beginning of a text; a space is written as ▁.
    prompt = len(" system: Answer.user: Hello?".replace(" ", "▁").encode()) + 1
    assert (told.content.strip(), told.finish_reason, told.usage) == (SENTENCE, "stop", (prompt, SENTENCE_TOKENS))


def test_answer_that_is_cut_says_so(server: GatewayServer, ask: Ask) -> None:
    told = ask(server.openai(), "default/weather", "Go on: *", max_tokens=3)

    assert (told.content, told.finish_reason, told.usage[1]) == (" on and on", "length", 3)


def test_prompt_that_is_too_long_is_the_callers_fault_and_tells_the_sizes(server: GatewayServer) -> None:
    ask_whole(server.openai(), "default/weather", "Hello?")
    with pytest.raises(openai.BadRequestError) as refused:
        ask_whole(server.openai(), "default/weather", "x" * 2 * CONTEXT)

    assert f"exceeds the available context size ({CONTEXT} tokens)" in refused.value.message
    assert shown(server, "llama")["state"] == "healthy"


def test_client_that_leaves_frees_the_server(server: GatewayServer, llama: LlamaServer) -> None:
    stream = server.openai().chat.completions.create(
        model="default/weather", messages=[{"role": "user", "content": "Go on: *"}], stream=True
    )
    next(iter(stream))
    assert llama.active() == 1

    stream.close()

    llama.wait_until_idle()


def test_history_and_parameters_are_taken(server: GatewayServer) -> None:
    answer = server.openai().chat.completions.create(
        model="default/weather",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "How is the weather?"},
        ],
        temperature=0,
        reasoning_effort="low",
        verbosity="low",
        metadata={"a": "b"},
    )

    assert (answer.choices[0].message.content or "").strip() == SENTENCE


def test_its_model_is_read_and_shown(server: GatewayServer, llama: LlamaServer) -> None:
    found = shown(server, "llama")

    assert {name: found[name] for name in ("kind", "base_url", "default_model", "models", "reason")} == {
        "kind": "llama_cpp",
        "base_url": llama.base_url,
        "default_model": NAME,
        "models": 1,
        "reason": "",
    }


def test_server_that_is_killed_is_down_and_used_again_when_it_is_back(server: GatewayServer, model: Path) -> None:
    with LlamaServer(model) as first:
        server.operator.put_upstream("fragile", kind="llama_cpp", base_url=first.base_url, cooldown=0, retries=0)
        eventually(lambda: said(server, "default/fixed"), SENTENCE)
        port = int(first.url.rpartition(":")[2])
        first.stop(9)

    eventually(lambda: shown(server, "fragile")["state"], "down", within=15)
    down = shown(server, "fragile")
    assert said(server, "default/fixed") == "upstream_unreachable"
    with LlamaServer(model, port=port):
        eventually(lambda: shown(server, "fragile")["state"] != "down", True, within=15)  # found by a probe alone
        assert said(server, "default/fixed") == SENTENCE

    assert down["reason"].startswith(f"Nothing listens at http://127.0.0.1:{port}/v1")
    assert [(one["state"], one["reason"]) for one in down["workers"]] == [("down", down["reason"])]
    server.operator.delete_upstream("fragile")


@pytest.mark.django_db
def test_it_is_found_at_the_first_start_by_what_it_says_of_itself(llama: LlamaServer, settings: Any) -> None:
    settings.GATEWAY_DEFAULT_UPSTREAM = ""

    detect_upstreams([Candidate("llamacpp", Kind.LLAMA_CPP, llama.base_url, owner="llamacpp")])

    row = Upstream.objects.get()
    assert (row.slug, row.kind, row.default_model, row.is_default) == ("llamacpp", Kind.LLAMA_CPP, NAME, True)


@pytest.mark.django_db
def test_test_of_the_admin_passes(llama: LlamaServer) -> None:
    row = Upstream(slug="llama", kind=Kind.LLAMA_CPP, base_url=llama.base_url)
    row.save()

    report = probe.test_upstream(row)

    assert [(step.name, step.passed) for step in report.steps][:2] == [("models", True), ("chat", True)]
