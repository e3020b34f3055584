"""Which tools to call: those that a directive or `tool_choice` names, else those that share words with the text."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apps.upstreams.demo.hints import Hints
from apps.upstreams.demo.keywords import keywords
from apps.upstreams.demo.messages import calls_in
from apps.upstreams.demo.request import Request
from apps.upstreams.demo.schema_values import json_fitting
from apps.upstreams.demo.tools import Tool, is_handoff


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: str


def calls_to_make(request: Request) -> list[Call]:
    """The calls to make now; none means that it is time to answer. Raises DemoRequestError."""
    earlier = len(calls_in(request.messages))
    return [
        Call(f"call_demo_{earlier + nth}_{request.digest[:8]}", name, _arguments(request, name, nth))
        for nth, name in enumerate(_names_to_call(request))
    ]


def _arguments(request: Request, name: str, nth: int) -> str:
    directives = request.directives
    place = directives.tools.index(name) if name in directives.tools else nth
    if place < len(directives.args) and not is_handoff(name):
        return directives.args[place]
    if name not in request.tools:
        return "{}"
    return json_fitting(request.tools[name].schema, Hints.from_text(request.text), param="tools")


def _names_to_call(request: Request) -> list[str]:
    if request.directives.no_tools or request.choice == "none":
        return []
    if ordered := [name for name in request.directives.tools if name not in request.called]:
        return _obeyed(request, ordered)
    if any(not is_handoff(name) for name in request.called):
        return []
    if isinstance(request.choice, Tool):
        return [] if request.choice.name in request.called else [request.choice.name]
    return _best(request) if _may_choose(request) else []


def _obeyed(request: Request, ordered: list[str]) -> list[str]:
    """What directives order; first the handoff, when it may lead to the agent that has the tools."""
    handoffs = _open_handoffs(request)
    if handoffs and not set(ordered) <= request.tools.keys():
        return [handoffs[0].name]
    return ordered if _may_call_several(request) else ordered[:1]


def _best(request: Request) -> list[str]:
    """The best handoff or tools; at equal chances, a handoff goes first."""
    tools = _by_likeness(request, (tool for tool in request.tools.values() if not is_handoff(tool.name)))
    handoffs = _open_handoffs(request)
    tool_fits = bool(tools) and tools[0].likeness(request.keywords) > 0
    if handoffs and (handoffs[0].likeness(request.keywords) or not tool_fits):
        return [handoffs[0].name]
    return [tool.name for tool in tools[: 2 if _fits_two(request, tools) else 1]]


def _open_handoffs(request: Request) -> list[Tool]:
    """The handoffs that may be taken, the best first: none after one has been."""
    if request.handoff_taken:
        return []
    return _by_likeness(request, (tool for tool in request.tools.values() if is_handoff(tool.name)))


def _by_likeness(request: Request, tools: Iterable[Tool]) -> list[Tool]:
    return sorted(tools, key=lambda tool: -tool.likeness(request.keywords))


def _fits_two(request: Request, tools: Sequence[Tool]) -> bool:
    """True when the text names the first two, each by a word of its name that is not in the other's."""
    if len(tools) < 2 or not _may_call_several(request):
        return False
    first, second = (request.keywords & keywords(tool.name) for tool in tools[:2])
    return bool(first - second) and bool(second - first)


def _may_call_several(request: Request) -> bool:
    return request.body.get("parallel_tool_calls") is not False


def _may_choose(request: Request) -> bool:
    if request.choice == "required":
        return True
    return not request.directives.fix_the_answer and not _is_small_talk(request.text)


_SMALL_TALK = re.compile(
    r"(hi|hello|hey|hiya|howdy|greetings|good (morning|afternoon|evening|day)|thanks|thank you|thx|cheers|bye|goodbye)"
    r"( (hi|hello|there|all|everyone|demo|again|you|so much|very much|a lot|how are you|thanks|thank you|bye))*",
    re.IGNORECASE,
)


def _is_small_talk(text: str) -> bool:
    return _SMALL_TALK.fullmatch(" ".join(re.findall(r"[^\W_]+", text))) is not None
