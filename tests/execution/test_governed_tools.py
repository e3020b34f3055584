"""Where the gateway reaches into the SDK for its rules about tools: an upgrade that moves such a place fails here.

Everything that the SDK does with a tool or a handoff is done here with a scripted model, whole and streamed.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    Computer,
    ComputerTool,
    CustomTool,
    Handoff,
    LocalShellTool,
    RunConfig,
    RunHooks,
    Runner,
    ShellTool,
    Tool,
    ToolGuardrailFunctionOutput,
    WebSearchTool,
    function_tool,
    handoff,
    tool_input_guardrail,
)
from agents.exceptions import ModelBehaviorError
from agents.items import ToolCallOutputItem
from agents.run_internal import tool_execution, turn_resolution
from agents.run_internal.tool_planning import ToolExecutionPlan
from django.core.exceptions import ImproperlyConfigured
from openai.types.responses import (
    ResponseApplyPatchToolCall,
    ResponseComputerToolCall,
    ResponseCustomToolCall,
    ResponseFunctionShellToolCall,
)
from openai.types.responses.response_output_item import LocalShellCall
from structlog.testing import capture_logs

from apps.access.models import AccessSettings, ApiKey, Grant, ToolRule
from apps.access.overrides import override
from apps.access.policy import Effect, Kind
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Key, Subject
from apps.core import live_config
from apps.core.errors import AccessDenied
from apps.execution import callers, governed_tools
from apps.execution.sdk_runner import run_config
from tests.execution.test_sdk_contract import ScriptedModel, text, tool_call

SECONDS = 0.5  # until an override ends, in tests of what is forbidden while the model answers
REFUSED = "The tool 'dig' is not allowed here. Go on without it."


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For this test alone."""
    for seam in governed_tools.SEAMS:
        owner, function = seam.find()
        monkeypatch.setattr(owner, seam.name, function)
    governed_tools.install()


Rules = Callable[..., None]


@pytest.fixture
def rules(db: None) -> Iterator[Rules]:
    """Denies these tools to everyone and puts that in force; `inner` are the grants that inner agents then need."""

    def put(*denied: str, inner: tuple[str, ...] | None = None, until: tuple[Kind, str] | None = None) -> None:
        for name in denied:
            ToolRule.objects.create(pattern=name, effect="deny")
        if inner is not None:
            AccessSettings.objects.create(pk=AccessSettings.ROW, inner_agents_obey_grants=True)
            for agents in inner:
                Grant.objects.create(agents=agents)
        if until:
            made = override(
                effect=Effect.ALLOW, about=until[0], pattern=until[1], ttl=timedelta(seconds=1), reason="x", author="x"
            )
            made.expires_at = made.created_at + timedelta(seconds=SECONDS)
            made.save()
        live_config.forget()
        policy_in_force()  # read here, where a database may be

    yield put
    live_config.forget()


Run = Callable[..., Any]


async def run_whole(agent: Agent[Any], **options: Any) -> Any:
    return await Runner.run(agent, "Hi", **options)


async def run_streamed(agent: Agent[Any], **options: Any) -> Any:
    result = Runner.run_streamed(agent, "Hi", **options)
    async for _ in result.stream_events():
        pass
    return result


@pytest.fixture(params=[run_whole, run_streamed], ids=["whole", "streamed"])
def run(request: pytest.FixtureRequest) -> Run:
    async def asked(agent: Agent[Any], **options: Any) -> Any:
        options.setdefault("run_config", RunConfig(tracing_disabled=True))
        with callers.working_for(Subject(Key(7, "seven")), "labs/desk", "_dropin.labs__desk__g0"):
            return await request.param(agent, **options)

    return lambda agent, **options: asyncio.run(asked(agent, **options))


def outputs(result: Any) -> list[Any]:
    return [item.output for item in result.new_items if isinstance(item, ToolCallOutputItem)]


class Listening(ScriptedModel):
    """Remembers what it was offered; may take its time."""

    def __init__(self, *script: Any, slow: bool = False) -> None:
        super().__init__(*script)
        self.offered: list[list[str]] = []
        self._slow = slow

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        await self._listen(args, kwargs)
        return await super().get_response(*args, **kwargs)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        await self._listen(args, kwargs)
        async for event in super().stream_response(*args, **kwargs):
            yield event

    async def _listen(self, args: Any, kwargs: Any) -> None:
        given = dict(zip(("", "", "", "tools", "", "handoffs"), args, strict=False)) | kwargs
        self.offered.append([tool.name for tool in given["tools"]] + [one.tool_name for one in given["handoffs"]])
        if self._slow:
            await asyncio.sleep(SECONDS + 0.1)


# --- the places ------------------------------------------------------------------------------------------------------


def test_installing_again_changes_nothing() -> None:
    before = [seam.find() for seam in governed_tools.SEAMS]
    governed_tools.install()

    assert [seam.find() for seam in governed_tools.SEAMS] == before


def other(*, something: Any) -> None:
    """Neither asynchronous nor with the parameters."""


async def other_parameters(*, something: Any) -> None:
    """Asynchronous, but with other parameters."""


@pytest.mark.parametrize("found", [None, other, other_parameters])
@pytest.mark.parametrize("seam", governed_tools.SEAMS, ids=lambda seam: f"{seam.owner}.{seam.name}")
def test_process_does_not_start_on_an_sdk_without_a_place(
    monkeypatch: pytest.MonkeyPatch, seam: governed_tools.Seam, found: Any
) -> None:
    owner, _ = seam.find()
    if found:
        monkeypatch.setattr(owner, seam.name, found)
    else:
        monkeypatch.delattr(owner, seam.name)

    with pytest.raises(ImproperlyConfigured, match=f"openai-agents has no {seam.owner}.{seam.name}"):
        governed_tools.install()


def test_process_does_not_start_on_an_sdk_without_a_module() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no nowhere:Nothing\.run"):
        governed_tools.Seam("nowhere:Nothing", "run", frozenset(), lambda original: original).find()


def test_native_calls_are_all_that_the_sdk_knows() -> None:
    kinds = {field.name for field in fields(ToolExecutionPlan)}
    others = {"function_runs", "pending_interruptions", "approved_mcp_responses", "mcp_requests_with_callback"}

    assert kinds - others == set(governed_tools.NATIVE_CALLS)
    hints = get_type_hints(ToolExecutionPlan, vars(turn_resolution) | vars(tool_execution))
    for name, native in governed_tools.NATIVE_CALLS.items():
        (call,) = hints[name].__args__
        assert {native.tool, "tool_call"} <= {field.name for field in fields(call)}


# --- function tools --------------------------------------------------------------------------------------------------


def test_refused_tool_is_an_output_like_any_other_and_nobody_else_hears_of_the_call(rules: Rules, run: Run) -> None:
    """Neither whoever approves, nor guardrails, nor hooks, nor the function."""
    rules("dig")
    heard: list[str] = []

    async def approves(*_: Any) -> bool:
        heard.append("approval")
        return True

    @tool_input_guardrail
    def guard(data: Any) -> ToolGuardrailFunctionOutput:
        heard.append("guardrail")
        return ToolGuardrailFunctionOutput.allow()

    class Hooks(RunHooks[Any]):
        async def on_tool_start(self, *_: Any) -> None:
            heard.append("hook")

    @function_tool(needs_approval=approves, tool_input_guardrails=[guard])
    def dig() -> str:
        heard.append("tool")
        return "gold"

    model = Listening(tool_call("dig"), text("done"))

    result = run(Agent(name="A", model=model, tools=[dig]), hooks=Hooks())

    assert (outputs(result), result.final_output, heard) == ([REFUSED], "done", [])
    assert result.interruptions == []
    assert model.offered == [["dig"], ["dig"]]


def test_refusal_is_the_answer_where_the_first_tool_ends_the_run(rules: Rules, run: Run) -> None:
    rules("dig")

    @function_tool
    def dig() -> str:
        return "gold"

    agent = Agent(name="A", model=ScriptedModel(tool_call("dig")), tools=[dig], tool_use_behavior="stop_on_first_tool")

    assert run(agent).final_output == REFUSED


def lost(agent: Agent[Any]) -> Any:
    """A run in a thread that inherits nothing."""
    running = run_whole(agent, run_config=RunConfig(tracing_disabled=True))
    return contextvars.Context().run(asyncio.run, running)


def digger() -> Agent[Any]:
    """With a tool of the drop-in labs/desk."""

    def dig() -> str:
        return "gold"

    dig.__module__ = "_dropin.labs__desk__g0.agent"
    return Agent(name="A", model=ScriptedModel(tool_call("dig"), text("done")), tools=[function_tool(dig)])


def test_run_that_lost_its_caller_goes_by_the_rules_for_everyone_when_nobody_is_there(rules: Rules) -> None:
    """A thread that outlives the run which began it."""
    rules("dig")

    assert outputs(lost(digger())) == [REFUSED]


@pytest.mark.parametrize(
    ("denied_to", "output"),
    [("flow", "gold"), ("desk", REFUSED), ("another of the desk", REFUSED), ("nobody here", "gold")],
)
def test_run_that_lost_its_caller_may_do_what_all_may_that_it_can_be_of(
    rules: Rules, denied_to: str, output: str
) -> None:
    keys = {name: ApiKey.objects.create(name=name, digest=name) for name in ("flow", "desk", "another of the desk")}
    elsewhere = ApiKey.objects.create(name="nobody here", digest="n")
    ToolRule.objects.create(pattern="dig", effect="deny", key=keys.get(denied_to, elsewhere))
    rules()
    with ExitStack() as runs:
        for name, key in keys.items():
            agent = "flow" if name == "flow" else "desk"
            subject = Subject(Key(key.pk, name))
            runs.enter_context(callers.working_for(subject, f"labs/{agent}", f"_dropin.labs__{agent}__g0"))

        assert outputs(lost(digger())) == [output]


# --- tools that the model's provider runs, and those that the SDK runs for its calls ----------------------------------


def shell_call() -> ResponseFunctionShellToolCall:
    return ResponseFunctionShellToolCall.model_validate(
        {"id": "sh", "call_id": "c", "type": "shell_call", "status": "completed", "action": {"commands": ["ls"]}}
    )


def shell(done: list[str]) -> ShellTool:
    def execute(request: Any) -> str:
        done.append("executed")
        return "a file"

    return ShellTool(executor=execute)


async def spell(context: Any, text: str) -> str:
    return text


def test_forbidden_tools_are_not_offered(rules: Rules, run: Run) -> None:
    rules("shell", "web_*", "custom")
    model = Listening(text("done"))
    custom = CustomTool(name="custom", description="", on_invoke_tool=spell)

    run(Agent(name="A", model=model, tools=[shell([]), WebSearchTool(), custom, CustomTool("other", "", spell)]))

    assert model.offered == [["other"]]


def test_tool_that_is_not_offered_is_one_denial_in_a_run_of_many_turns(rules: Rules, run: Run) -> None:
    rules("web_search", "dig")
    model = Listening(tool_call("dig"), tool_call("dig", id="call_2"), text("done"))
    agent = Agent(name="A", model=model, tools=[WebSearchTool(), *digger().tools])

    with capture_logs() as lines:
        run(agent)

    assert model.offered == [["dig"], ["dig"], ["dig"]]
    denied = [line["target"] for line in lines if line["event"] == "agent.security.decision"]
    assert denied == ["labs/desk web_search", "labs/desk dig", "labs/desk dig"]


def test_call_that_was_not_offered_is_not_executed(rules: Rules, run: Run) -> None:
    rules("shell")
    done: list[str] = []

    with pytest.raises(ModelBehaviorError):
        run(Agent(name="A", model=ScriptedModel(shell_call(), text("done")), tools=[shell(done)]))
    assert done == []


PATCH = {"type": "create_file", "path": "a.txt", "diff": "+a"}
RUN_LS = {"type": "exec", "command": ["ls"], "env": {}}


def native_tools(done: list[str]) -> dict[str, tuple[Tool, Any]]:
    """One of each kind that the SDK runs, which notes in `done` that it was, and a call of it."""

    def executed(*_: Any) -> str:
        done.append("executed")
        return "a file"

    async def invoked(*_: Any) -> str:
        return executed()

    class Editor:
        create_file = update_file = delete_file = staticmethod(executed)

    class Screen(Computer):
        environment, dimensions = "browser", (1, 1)
        screenshot = click = double_click = scroll = type = wait = move = keypress = drag = executed

    local = {"id": "l", "call_id": "c", "type": "local_shell_call", "status": "completed", "action": RUN_LS}
    patch = {"id": "p", "call_id": "c", "type": "apply_patch_call", "status": "completed", "operation": PATCH}
    look = {"id": "s", "call_id": "c", "type": "computer_call", "status": "completed", "pending_safety_checks": []}
    return {
        "shell": (shell(done), shell_call()),
        "spell": (
            CustomTool(name="spell", description="", on_invoke_tool=invoked),
            ResponseCustomToolCall(call_id="c", input="x", name="spell", type="custom_tool_call"),
        ),
        "local_shell": (LocalShellTool(executor=executed), LocalShellCall.model_validate(local)),
        "apply_patch": (ApplyPatchTool(editor=Editor()), ResponseApplyPatchToolCall.model_validate(patch)),
        "computer*": (
            ComputerTool(computer=Screen()),
            ResponseComputerToolCall.model_validate({**look, "action": {"type": "screenshot"}}),
        ),
    }


@pytest.mark.parametrize("name", ["shell", "spell", "local_shell", "apply_patch"])
def test_call_that_is_forbidden_while_the_model_answers_is_told_and_not_executed(
    rules: Rules, run: Run, name: str
) -> None:
    rules(name, until=(Kind.TOOL, name))
    done: list[str] = []
    tool, call = native_tools(done)[name]
    model = Listening(call, text("done"), slow=True)

    with capture_logs() as lines:
        result = run(Agent(name="A", model=model, tools=[tool]))

    assert outputs(result) == [f"The tool '{name}' is not allowed here. Go on without it."]
    assert (result.final_output, model.offered, done) == ("done", [[name], []], [])
    made = [line["outcome"] for line in lines if line["event"] == "tool_call_finished"]
    assert made == ["denied"]


@pytest.mark.parametrize("name", ["shell", "spell", "local_shell", "apply_patch", "computer*"])
def test_call_of_a_kind_that_no_rule_forbids_is_executed(rules: Rules, run: Run, name: str) -> None:
    """So that the tests of what is forbidden do not pass for another reason."""
    rules()
    done: list[str] = []
    tool, call = native_tools(done)[name]

    run(Agent(name="A", model=ScriptedModel(call, text("done")), tools=[tool]))

    assert set(done) == {"executed"}


def test_computer_that_is_forbidden_while_the_model_answers_ends_the_run(rules: Rules, run: Run) -> None:
    """Its answer is a picture of the screen, which can say nothing."""
    rules("computer*", until=(Kind.TOOL, "computer*"))
    done: list[str] = []
    tool, call = native_tools(done)["computer*"]

    with pytest.raises(AccessDenied, match=r"The tool 'computer\w*' is not allowed here"):
        run(Agent(name="A", model=Listening(call, text("done"), slow=True), tools=[tool]))
    assert done == []


# --- handoffs --------------------------------------------------------------------------------------------------------


def desk(model: Listening, heard: list[str]) -> Agent[Any]:
    """Hands over to Refunds, on the way to which `heard` hears of it."""
    refunds = Agent(name="Refunds", model=ScriptedModel(text("refunded")))
    return Agent(name="Desk", model=model, handoffs=[handoff(refunds, on_handoff=lambda _: heard.append("handed"))])


HAND_OVER = tool_call("transfer_to_refunds")


def test_handoff_is_made_where_there_is_a_grant(rules: Rules, run: Run) -> None:
    rules(inner=("labs/refunds",))
    heard: list[str] = []

    result = run(desk(Listening(HAND_OVER), heard))

    assert (result.final_output, heard) == ("refunded", ["handed"])


def test_handoff_without_a_grant_is_not_offered_and_its_call_is_told(rules: Rules, run: Run) -> None:
    rules(inner=("labs/desk",))
    heard: list[str] = []
    model = Listening(HAND_OVER, text("done"))

    result = run(desk(model, heard), run_config=run_config())

    why = "The API key may not use the agent 'labs/refunds'"
    assert outputs(result) == [f"The tool 'transfer_to_refunds' is not allowed here: {why}. Go on without it."]
    assert (model.offered, heard, result.final_output) == ([[], []], [], "done")


def test_call_of_it_ends_a_run_with_a_configuration_of_its_own(rules: Rules, run: Run) -> None:
    """There the SDK knows no way to tell the model."""
    rules(inner=())
    heard: list[str] = []

    with pytest.raises(ModelBehaviorError):
        run(desk(Listening(HAND_OVER, text("done")), heard), run_config=RunConfig(tracing_disabled=True))
    assert heard == []


def test_handoff_that_is_forbidden_while_the_model_answers_is_not_made(rules: Rules, run: Run) -> None:
    rules(inner=(), until=(Kind.AGENT, "labs/refunds"))
    heard: list[str] = []
    model = Listening(HAND_OVER, slow=True)

    with pytest.raises(AccessDenied, match="may not use the agent 'labs/refunds'"):
        run(desk(model, heard))
    assert (model.offered, heard) == ([["transfer_to_refunds"]], [])


def test_handoff_to_another_agent_than_announced_needs_its_grant(rules: Rules, run: Run) -> None:
    rules(inner=("labs/refunds",))
    other = Agent(name="Vault", model=ScriptedModel(text("opened")))

    async def go(*_: Any) -> Agent[Any]:
        return other

    lying: Handoff[Any, Any] = Handoff("transfer_to_refunds", "", {}, go, "Refunds")

    with pytest.raises(AccessDenied, match="may not use the agent 'labs/vault'"):
        run(Agent(name="Desk", model=Listening(HAND_OVER), handoffs=[lying]))
