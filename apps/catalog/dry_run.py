"""Which agent a program runs first, and in what context: found by running it, with a runner that runs nothing.

For modules that build their agent in main(). What main() does before it comes to its agent really happens, so an
operator has to ask for it. The seam is that of apps/execution/sdk_runner.py, the SDK's default runner.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
        _halt(starting_agent, kwargs)
        return await self._next.run(starting_agent, input, **kwargs)

    def run_sync(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        _halt(starting_agent, kwargs)
        return self._next.run_sync(starting_agent, input, **kwargs)

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        _halt(starting_agent, kwargs)
        return self._next.run_streamed(starting_agent, input, **kwargs)


def _halt(agent: Agent[Any], options: Mapping[str, Any]) -> None:
    if (running := program.current()) is not None:
        running.run(agent, options.get("context"))


def install() -> None:
    """Put it before the runner that is installed now, unless it stands there already."""
    runner = get_default_agent_runner()
    if not isinstance(runner, HaltingRunner):
        default_runner.install(HaltingRunner(runner))


def run(module: ModuleType, code: CodeType, running: Program) -> None:
    """Run the program `code` of the module up to where it gives an agent to Runner, or to its end.

    Runs in the calling thread, where no event loop runs, with nothing printed. Loops that the program opened are closed
    by its unwinding. Raises whatever the program raises before it comes to an agent.
    """
    running.is_silent = True
    try:
        with _noting_agents(running):
            exec(code, vars(module))  # noqa: S102  # the module's own text, which is what an operator asked for
    except Halt:
        pass
    except BaseException:
        if running.agent is None:
            raise
    finally:
        running.is_silent = False


@contextmanager
def _noting_agents(running: Program) -> Iterator[None]:
    """Agents that are built inside are noted in `running.built`. One program runs at a time."""
    usual: Callable[[Agent[Any]], None] = Agent.__post_init__

    def note(agent: Agent[Any]) -> None:
        usual(agent)
        if program.current() is running:
            running.built.append(agent)

    Agent.__post_init__ = note  # type: ignore[method-assign]
    try:
        yield
    finally:
        Agent.__post_init__ = usual  # type: ignore[method-assign]
