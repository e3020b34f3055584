"""What is to be said: prose, JSON, a refusal, tool calls, or what directives dictate."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from apps.upstreams.demo.chat_tasks import task_answer
from apps.upstreams.demo.fields import max_words, response_format, stops, wants_json
from apps.upstreams.demo.hints import Hints
from apps.upstreams.demo.phrases import GREETING
from apps.upstreams.demo.prose import prose
from apps.upstreams.demo.request import Request
from apps.upstreams.demo.schema_values import json_fitting
from apps.upstreams.demo.tokens import pieces
from apps.upstreams.demo.tool_choice import Call, calls_to_make


@dataclass(frozen=True)
class Answer:
    """One of content, refusal and calls, perhaps after some reasoning."""

    content: str = ""
    refusal: str = ""
    calls: Sequence[Call] = ()
    reasoning: str = ""
    finish_reason: str = "stop"


def answer_to(request: Request) -> Answer:
    """Raises DemoRequestError."""
    answer = _limited(_unlimited(request), request)
    finish_reason = request.directives.finish or answer.finish_reason
    return replace(answer, reasoning=request.directives.reason or "", finish_reason=finish_reason)


def _unlimited(request: Request) -> Answer:
    if request.is_task and not wants_json(request.body):
        return Answer(content=task_answer(request.text))
    if calls := calls_to_make(request):
        return Answer(calls=calls, finish_reason="tool_calls")
    if request.directives.refuse is not None:
        return Answer(refusal=request.directives.refuse)
    return Answer(content=_content(request))


def _content(request: Request) -> str:
    directives = request.directives
    if directives.say is not None:
        return directives.say
    if directives.words is not None:
        return " ".join(f"word{number}" for number in range(1, directives.words + 1))
    return _json_content(request) if wants_json(request.body) else prose(request)


def _json_content(request: Request) -> str:
    told = [f"{name} returned: {output}" for name, output in request.results]
    given = response_format(request.body).get("json_schema")
    if isinstance(given, Mapping) and "schema" in given:
        hints = Hints.from_text(request.text, " ".join([GREETING, *told]))
        return json_fitting(given["schema"], hints, param="response_format")
    answer = {"demo": True, "message": GREETING, "you_said": request.text, "tool_results": told}
    return json.dumps(answer, ensure_ascii=False)


def _limited(answer: Answer, request: Request) -> Answer:
    """The answer after `stop` and `max_tokens`; calls and refusals are not cut."""
    ends = [at for stop in stops(request.body) if (at := answer.content.find(stop)) >= 0]
    content = answer.content[: min(ends)] if ends else answer.content
    most = max_words(request.body)
    if most is not None and len(words := pieces(content)) > most:
        return replace(answer, content="".join(words[:most]).rstrip(), finish_reason="length")
    return replace(answer, content=content)
