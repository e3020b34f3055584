"""Agents with hosted tools and prompts, on an upstream that is marked as having the Responses API."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest

from tests.conftest import write_source
from tests.fakes.responses_upstream import CHAT_PIECES, PIECES, TEXT, USAGE
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, Told, ask_streamed, deltas, read_stream
from tests.harness.processes import clean_environment
from tests.harness.upstreams import LLMServer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "dropin_agents"
NAMES = [
    "HostedSearch", "HostedMixed", "HostedNested", "HostedReturns", "HostedWorkflow", "PromptFixed", "PromptDynamic",
    "SandboxDefault",
]  # fmt: skip
TOKENS = (USAGE["input_tokens"], USAGE["output_tokens"])
HOSTED = "from agents import Agent, WebSearchTool\nagent = Agent(name='Hosted', model={!r}, tools=[WebSearchTool()])\n"


class ResponsesServer(LLMServer):
    """tests/fakes/responses_upstream.py."""

    announcement = "at "

    def __init__(self) -> None:
        super().__init__(["-m", "tests.fakes.responses_upstream"], clean_environment())

    def last(self) -> dict[str, Any]:
        last: dict[str, Any] = self.read("/last")
        return last


@pytest.fixture(scope="module")
def upstream() -> Iterator[ResponsesServer]:
    with ResponsesServer() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, template: Template, upstream: ResponsesServer
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("responses")
    for name in NAMES:
        shutil.copytree(FIXTURES / name, folder / "agents" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "r-text", "r-future", "r-search", "r-reasoning", "r-refusal", "r-length", "r-filtered", "r-failed", "r-limited",
        "r-error", "r-cut", "r-drop", "r-hang", "r-garbage", "r-400", "r-401", "r-429", "r-500",
    ):  # fmt: skip
        write_source(folder / "agents" / "hosted" / name, HOSTED.format(name))
    server = GatewayServer(folder / "data", agents=folder / "agents", template=template)
    server.operator.put_upstream(
        "openai", kind="openai", base_url=upstream.base_url, default_model="r-search", secret="sk-responses",
        speaks_responses=True, first_event_timeout=5, silence_timeout=3,
    )  # fmt: skip
    with server:
        yield server


@pytest.fixture(scope="module")
def client(gateway: GatewayServer) -> openai.OpenAI:
    return gateway.openai()


# --- answers ---------------------------------------------------------------------------------------------------------


def test_hosted_search_answers_with_the_text_alone(client: openai.OpenAI, upstream: ResponsesServer, ask: Ask) -> None:
    """The search, the citation and the events that nobody knows pass by."""
    assert ask(client, "default/hostedsearch", "Weather?") == Told(TEXT, "stop", TOKENS)

    asked = upstream.last()
    assert asked["path"] == "/responses"
    assert asked["headers"]["authorization"] == "Bearer sk-responses"
    assert (asked["body"]["model"], asked["body"]["instructions"]) == ("r-search", "Search.")
    assert asked["body"]["input"] == [{"role": "user", "content": "Weather?"}]
    assert [tool["type"] for tool in asked["body"]["tools"]] == ["web_search"]


def test_item_that_nobody_knows_passes_by(client: openai.OpenAI, ask: Ask) -> None:
    assert ask(client, "hosted/r-future", "Weather?") == Told(TEXT, "stop", TOKENS)


def test_text_is_streamed_piece_by_piece(client: openai.OpenAI) -> None:
    chunks = read_stream(client, "hosted/r-text", "Weather?")
    assert "".join(deltas(chunks, "content")) == TEXT
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 8
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 5


def test_whole_conversation_is_sent(client: openai.OpenAI, upstream: ResponsesServer, ask: Ask) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]
    ask(client, "hosted/r-text", messages)

    assert upstream.last()["body"]["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look."},
        {
            "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "2_0_c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "2_0_c1", "output": "Rain."},
        {"role": "user", "content": [{"type": "input_text", "text": "And now?"}]},
    ]  # fmt: skip


def test_parameters_are_sent_as_the_responses_api_names_them(
    client: openai.OpenAI, upstream: ResponsesServer, ask: Ask
) -> None:
    schema = {"name": "city", "schema": {"type": "object", "properties": {}}, "strict": True}
    ask(
        client, "hosted/r-text", "Hi", temperature=0.5, max_tokens=70, seed=3, stop=["x"], reasoning_effort="low",
        verbosity="low", user="u1", response_format={"type": "json_schema", "json_schema": schema},
    )  # fmt: skip

    body = upstream.last()["body"]
    assert {name: body[name] for name in ("temperature", "max_output_tokens", "reasoning", "user", "stream")} == {
        "temperature": 0.5, "max_output_tokens": 70, "reasoning": {"effort": "low"}, "user": "u1", "stream": True,
    }  # fmt: skip
    assert body["text"] == {"verbosity": "low", "format": {"type": "json_schema", **schema}}
    assert not {"seed", "stop", "response_format", "max_tokens"} & set(body)


def test_function_tool_beside_a_hosted_one_is_called(
    client: openai.OpenAI, upstream: ResponsesServer, ask: Ask
) -> None:
    told = ask(client, "default/hostedmixed", "Weather?")
    assert told == Told("The tool says: Rain in Oslo.", "stop", (2 * TOKENS[0], 2 * TOKENS[1]))

    kinds = [item.get("type", item.get("role")) for item in upstream.last()["body"]["input"]]
    assert kinds == ["user", "web_search_call", "function_call", "function_call_output"]


def test_reasoning_summary_is_told(client: openai.OpenAI) -> None:
    told = ask_streamed(client, "hosted/r-reasoning", "Weather?")
    assert (told.reasoning, told.content) == ("Let me think.", TEXT)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("hosted/r-refusal", Told("", "stop", TOKENS, refusal="I cannot do that.")),
        ("hosted/r-length", Told(TEXT, "length", TOKENS)),
        ("hosted/r-filtered", Told(PIECES[0], "content_filter", TOKENS)),
    ],
)
def test_answer_that_ends_otherwise_says_so(client: openai.OpenAI, ask: Ask, model: str, told: Told) -> None:
    assert ask(client, model, "Weather?") == told


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_prompt_is_sent_on_and_chooses_its_model(client: openai.OpenAI, upstream: ResponsesServer, ask: Ask) -> None:
    told = ask(client, "default/promptfixed", "Hi")
    assert told.content == 'Prompt pmpt_123 with {"city": "Oslo"}.'

    body = upstream.last()["body"]
    assert body["prompt"] == {"id": "pmpt_123", "version": "2", "variables": {"city": "Oslo"}}
    assert "model" not in body


def test_prompt_of_a_function_keeps_the_agents_model(
    client: openai.OpenAI, upstream: ResponsesServer, ask: Ask
) -> None:
    assert ask(client, "default/promptdynamic", "Hi").content == 'Prompt pmpt_of_the_run with {"agent": "Chosen"}.'
    assert upstream.last()["body"]["model"] == "r-text"


# --- SandboxAgent ----------------------------------------------------------------------------------------------------


def test_sandbox_agent_offers_its_patches_too(client: openai.OpenAI, upstream: ResponsesServer, ask: Ask) -> None:
    """Its tool for patches and the compaction of its history exist on the Responses API only."""
    assert ask(client, "default/sandboxdefault", "Weather?") == Told(TEXT, "stop", TOKENS)

    body = upstream.last()["body"]
    names = {tool["name"]: tool["type"] for tool in body["tools"]}
    assert names == dict.fromkeys(("exec_command", "view_image", "write_stdin"), "function") | {"apply_patch": "custom"}
    assert [one["type"] for one in body["context_management"]] == ["compaction"]


# --- who needs it, and who does not ----------------------------------------------------------------------------------


def test_each_agent_of_a_graph_gets_what_it_needs(gateway: GatewayServer, client: openai.OpenAI, ask: Ask) -> None:
    """The front agent runs on the default upstream's chat completions, its helpers on the Responses API."""
    for directive in ("[[tool=search]]", "[[tool=look_up]]"):
        id = f"req_{uuid4().hex}"
        told = ask(client, "default/hostednested", f"Weather? {directive}", extra_headers={"x-request-id": id})
        assert TEXT in told.content
        run = gateway.wait_for_run(request_id=id)
        assert (run["upstream"], run["model_calls"], run["outcome"]) == ("llm", 3, "completed")


def test_hosted_calls_of_another_agent_are_no_stumbling_block_for_chat_completions(
    gateway: GatewayServer, client: openai.OpenAI, ask: Ask
) -> None:
    id = f"req_{uuid4().hex}"
    told = ask(client, "default/hostedreturns", "Weather?", extra_headers={"x-request-id": id})
    assert told.content.startswith("I have searched.\n\n")

    run = gateway.wait_for_run(request_id=id)
    assert (run["upstream"], run["model_calls"], run["outcome"]) == ("llm", 2, "completed")


def test_node_of_a_workflow_is_streamed(client: openai.OpenAI, ask: Ask) -> None:
    assert ask(client, "default/hostedworkflow", "Compute.") == Told(TEXT, "stop", TOKENS)


def test_plain_agent_keeps_chat_completions(
    gateway: GatewayServer, client: openai.OpenAI, upstream: ResponsesServer, ask: Ask
) -> None:
    write_source(gateway.agents / "Plain", "from agents import Agent\nagent = Agent(name='P', model='r-text')\n")
    eventually(lambda: "default/plain" in [one.id for one in client.models.list()], True)
    told = ask(client, "default/plain", "Hi")

    assert told.content == "".join(CHAT_PIECES)
    assert upstream.last()["path"] == "/chat/completions"


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "code", "message"),
    [
        ("r-400", 400, "upstream_rejected", "Upstream 'openai' says: Unknown parameter."),
        (
            "r-401", 502, "upstream_unauthorised",
            "Upstream 'openai' refused the gateway's secret (401). Enter it again in the admin.",
        ),
        ("r-429", 429, "rate_limit_exceeded", "Upstream 'openai' says: Slow down."),
        ("r-500", 502, "upstream_error", "Upstream 'openai' failed with status 500: The server crashed."),
        ("r-limited", 429, "rate_limit_exceeded", "Upstream 'openai' failed in the middle of its answer: Slow down."),
    ],
)  # fmt: skip
def test_refusal_keeps_its_status(
    client: openai.OpenAI, ask: Ask, fault: str, status: int, code: str, message: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, f"hosted/{fault}", "Hi")
    error = caught.value
    assert (error.status_code, error.code, error.body["message"]) == (status, code, message)  # type: ignore[index]
    assert error.response.headers.get("retry-after") == ("7" if fault == "r-429" else None)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("r-failed", "upstream_error"), ("r-error", "upstream_error"), ("r-cut", "upstream_cut"),
        ("r-drop", "upstream_cut"), ("r-hang", "upstream_silent"), ("r-garbage", "upstream_garbage"),
    ],
)  # fmt: skip
def test_failure_in_mid_answer_is_told(client: openai.OpenAI, ask: Ask, fault: str, code: str) -> None:
    with pytest.raises(openai.APIError) as caught:
        ask(client, f"hosted/{fault}", "Hi")
    assert caught.value.code == code


def test_leaving_client_ends_the_upstreams_answer(client: openai.OpenAI, upstream: ResponsesServer) -> None:
    before = upstream.stats()["cancelled"]
    stream = client.chat.completions.create(
        model="hosted/r-hang", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    next(iter(stream))
    stream.close()

    eventually(lambda: upstream.stats()["cancelled"], before + 1)
    upstream.wait_until_idle()


# --- no upstream that has it -----------------------------------------------------------------------------------------


def problems_of(server: GatewayServer, agent_id: str) -> tuple[str, list[str]]:
    """As the database tells it: the state, and the codes of the diagnostics."""
    return server.operator.agent_state(agent_id), server.operator.diagnostics(agent_id)


@pytest.mark.parametrize("reload", ["true", "false"])
def test_agent_comes_and_goes_with_the_mark(
    start_gateway: Callable[..., GatewayServer], upstream: ResponsesServer, reload: str
) -> None:
    server = start_gateway(
        agents={"Search": HOSTED.format(None), "Plain": "from agents import Agent\nagent = Agent(name='P')\n"},
        GATEWAY_AGENT_AUTO_RELOAD=reload,
    )
    client = server.openai()

    def listed() -> list[str]:
        return [one.id for one in client.models.list()]

    def mark(*, has_it: bool) -> None:
        server.operator.put_upstream(
            "openai", base_url=upstream.base_url, default_model="r-text", models=["r-text"], speaks_responses=has_it
        )

    for _ in range(2):
        assert listed() == ["default/plain"]
        with pytest.raises(openai.InternalServerError) as caught:
            ask_streamed(client, "default/search", "Hi")
        assert (caught.value.status_code, caught.value.code) == (503, "agent_broken")
        assert caught.value.body["message"] == (  # type: ignore[index]
            "The agent 'default/search' is broken: It needs an upstream with the Responses API for its model, because "
            "of WebSearchTool of the agent Hosted. The admin says how to mend it."
        )
        eventually(lambda: problems_of(server, "default/search"), ("broken", ["needs_responses"]))

        mark(has_it=True)
        eventually(listed, ["default/plain", "default/search"])
        assert ask_streamed(client, "default/search", "Hi").content == TEXT
        eventually(lambda: problems_of(server, "default/search"), ("live", []))

        mark(has_it=False)
        eventually(listed, ["default/plain"])


def test_need_that_shows_in_the_run_alone_is_told(start_gateway: Callable[..., GatewayServer], ask: Ask) -> None:
    source = """
from agents import Agent, Runner, WebSearchTool

async def run_workflow(text: str) -> str:
    made = Agent(name="Made", tools=[WebSearchTool()])
    return (await Runner.run(made, text)).final_output
"""
    client = start_gateway(agents={"Late": source}).openai()
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "default/late", "Hi")
    assert (caught.value.status_code, caught.value.code) == (503, "needs_responses")
    assert caught.value.body["message"] == (  # type: ignore[index]
        "No upstream is marked as having the Responses API. Mark one that has it in the admin under Upstreams, or add "
        "OpenAI there."
    )
