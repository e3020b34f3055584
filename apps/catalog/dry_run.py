"""Which agent a program runs first: found by running the program, with a runner that runs nothing.

For modules that build their agent in main(). What main() does before it comes to its agent really happens, so an
operator has to ask for it. The seam is that of apps/execution/sdk_runner.py, the SDK's default runner.
"""

from types import CodeType, ModuleType
from typing import Any

from agents import Agent, RunResult, RunResultStreaming
from agents.run import AgentRunner, get_default_agent_runner

from apps.catalog import default_runner, program
from apps.catalog.program import Halt, Program


class HaltingRunner(AgentRunner):
    """Ends programs that are being loaded where they would run an agent; everybody else's runs go to the next runner.

    It stays installed: a program that was left behind after its time must never come to a model.
    """

    def __init__(self, next_runner: AgentRunner) -> None:
        self._next = next_runner

    async def run(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        _halt(starting_agent)
        return await self._next.run(starting_agent, input, **kwargs)

    def run_sync(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        _halt(starting_agent)
        return self._next.run_sync(starting_agent, input, **kwargs)

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        _halt(starting_agent)
        return self._next.run_streamed(starting_agent, input, **kwargs)


def _halt(agent: Agent[Any]) -> None:
    if (running := program.current()) is not None:
        running.run(agent)


def install() -> None:
    """Put it before the runner that is installed now, unless it stands there already."""
    runner = get_default_agent_runner()
    if not isinstance(runner, HaltingRunner):
        default_runner.install(HaltingRunner(runner))


def first_agent(module: ModuleType, code: CodeType, running: Program) -> Agent[Any] | None:
    """The agent that the program `code` of the module gives to Runner first, None if it ends without one.

    Runs in the calling thread, where no event loop runs, with nothing printed. Loops that the program opened are closed
    by its unwinding. Raises whatever the program raises before it comes to an agent.
    """
    running.is_silent = True
    try:
        exec(code, vars(module))  # noqa: S102  # the module's own text, which is what an operator asked for
    except Halt:
        pass
    except BaseException:
        if running.agent is None:
            raise
    finally:
        running.is_silent = False
    return running.agent if isinstance(running.agent, Agent) else None
