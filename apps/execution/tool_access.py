"""Whether a tool may be called, or a run handed over, in the run that goes on here: asked of the policy in force.

Every kind of tool passes `ask_for_tool`: those that the SDK calls by governed_tools.py, those of declared agents by
tool_calls.py.
"""

from collections.abc import Callable, Sequence
from functools import partial

from apps.access.authorise import ask
from apps.access.decide import Action, Decision, Target, decide
from apps.access.policy_in_force import policy_in_force
from apps.catalog import scan
from apps.core import clock
from apps.execution import callers
from apps.execution.callers import Caller
from apps.execution.tool_modules import package_of, public_name

TargetOf = Callable[[Caller], Target]


def ask_for_tool(name: str, source: str) -> Decision:
    """May the tool be called now? One decision, logged and counted. `source` is as tool_modules.source_of has it."""
    who = callers.narrowed(callers.possible(), package_of(source))
    return _ask(who, Action.USE_TOOL, _tool(name, source))


def ask_to_hand_over(agent_name: str) -> Decision | None:
    """May the run go on with the inner agent of this name? As above; None where inner agents need no grant."""
    if not policy_in_force().inner_agents_obey_grants:
        return None
    return _ask(callers.narrowed(callers.possible(), ""), Action.HAND_OVER, partial(_inner_agent, agent_name))


def may_offer_tool(name: str, source: str) -> bool:
    """Whether the model may be told of the tool. Only a denial is a decision to log, once in a run."""
    who = callers.narrowed(callers.possible(), package_of(source))
    return _may_offer(name, who, Action.USE_TOOL, _tool(name, source))


def may_offer_handoff(name: str, agent_name: str) -> bool:
    """The same of the handoff that is called `name` for the model."""
    if not policy_in_force().inner_agents_obey_grants:
        return True
    who = callers.narrowed(callers.possible(), "")
    return _may_offer(name, who, Action.HAND_OVER, partial(_inner_agent, agent_name))


def sentence(name: str, decision: Decision) -> str:
    """What the model is told of a call that was refused."""
    beginning = f"The tool '{name}' is not allowed here"
    why = ((decision.rule.note if decision.rule else "") or decision.reason).rstrip(". ")
    return f"{beginning}. Go on without it." if why == beginning else f"{beginning}: {why}. Go on without it."


def _tool(name: str, source: str) -> TargetOf:
    module = public_name(source)
    return lambda caller: Target(caller.agent_id, name, module)


def _inner_agent(name: str, caller: Caller) -> Target:
    return Target(scan.agent_id(caller.namespace, name))


def _ask(who: Sequence[Caller], action: Action, target_of: TargetOf) -> Decision:
    caller = _judged_by(who, action, target_of)
    return ask(caller.subject, action, target_of(caller))


def _may_offer(name: str, who: Sequence[Caller], action: Action, target_of: TargetOf) -> bool:
    caller = _judged_by(who, action, target_of)
    if _is_allowed(action, target_of, caller):
        caller.refused.pop(name, None)
        return True
    if name not in caller.refused:
        caller.refused[name] = sentence(name, ask(caller.subject, action, target_of(caller)))
    return False


def _judged_by(who: Sequence[Caller], action: Action, target_of: TargetOf) -> Caller:
    """Where several may be meant, one refusal refuses."""
    if len(who) == 1:
        return who[0]
    return next((one for one in who if not _is_allowed(action, target_of, one)), who[0])


def _is_allowed(action: Action, target_of: TargetOf, caller: Caller) -> bool:
    return decide(policy_in_force(), caller.subject, action, target_of(caller), at=clock.now()).allowed
