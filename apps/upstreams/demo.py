"""The built-in demo upstream: an OpenAI-compatible chat model with no model in it, so that all else can be tried.

Pure functions from a `/chat/completions` request body to its answer: the same body always gets the same answer, down
to ids and usage. It takes any model name, answers in prose that says that it is the demo, quotes what it was told,
calls the tools it is offered with arguments that fit their schemas, takes handoffs, and fills a requested JSON schema.

Since the last user message it takes at most one handoff and makes at most one round of ordinary tool calls, then it
answers: no agent can loop on it. Tools are chosen by the words that their names and descriptions share with the text.

Directives, anywhere in the last user message, make it answer what a test needs:

    [[words=200]]            exactly 200 numbered words: word1 word2 ... (at most 100,000)
    [[say=Some text]]        exactly this text
    [[refuse]]               a refusal instead of content; [[refuse=text]] words it
    [[reason]]               reasoning_content before the answer; [[reason=text]] words it
    [[finish=length]]        this finish_reason, whatever the answer (stop, length, tool_calls, content_filter)
    [[tool=NAME]]            call this tool, offered or not (an agent without it that can hand off does so first);
                             repeated, it makes parallel calls
    [[args={"city": "X"}]]   with these exact arguments, valid or not; the n-th belongs to the n-th [[tool=...]]
    [[no-tools]]             call no tool and take no handoff, whatever tool_choice says
    [[delay=0.05]]           seconds between two words, up to 10 (the server keeps it: these functions never wait)

`words`, `say` and `refuse` answer at once unless a `tool` directive or tool_choice asks for a call. Directives are cut
from the text that tools are given, so that an agent called as a tool does not obey them again.

Usage is counted by rule: a prompt has a token for every started group of 4 characters of each text, tool name and
argument string of its messages and of the JSON of its tools, 4 more for each message, and 85 for each image, sound or
file; an answer has one for each word, and for each piece of a tool call that is streamed.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

MODEL = "demo"
CREATED = 1_763_596_800  # 2025-11-20: a clock would make two equal requests differ
MAX_WORDS = 100_000
MAX_DELAY = 10.0
HANDOFF_PREFIX = "transfer_to_"  # what the Agents SDK calls its handoff tools

GREETING = "This is the built-in demo upstream: no language model is connected."
REMEDY = "To talk to a real model, add its server in the admin under Upstreams and make it the default."
REFUSAL = "The built-in demo upstream refuses this, as it was told to."
REASONING = "The built-in demo upstream does not think, but it was told to look as if it did."

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
MEDIA = {"image_url": "image", "input_audio": "sound", "file": "file"}


class DemoRequestError(Exception):
    """A request that OpenAI's API refuses too. `status` is the HTTP status of the answer."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status

    def body(self) -> dict[str, Any]:
        """The answer's body, in OpenAI's shape."""
        error = {"message": self.message, "type": "invalid_request_error", "param": self.param, "code": self.code}
        return {"error": error}


# --- the three answers -----------------------------------------------------------------------------------------------


def chunks(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The answer as `chat.completion.chunk` objects: the role, the words or calls, the finish_reason, and the usage
    with no choices when `stream_options.include_usage` asks for it. Raises DemoRequestError before the first chunk.
    """
    request = Request.from_body(body)
    return _stream(request, _answer(request), with_usage=_wants_usage(body))


def completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same answer as one `chat.completion`, always with usage. Raises DemoRequestError."""
    request = Request.from_body(body)
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    folded: dict[str, Any] = {}
    finish_reason = None
    for chunk in _stream(request, _answer(request), with_usage=True):
        folded = chunk
        for choice in chunk["choices"]:
            finish_reason = choice["finish_reason"]
            _fold(message, choice["delta"])
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}]
    return folded | {"object": "chat.completion", "choices": choices}


def models() -> dict[str, Any]:
    """What `GET /v1/models` answers."""
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": CREATED, "owned_by": "demo"}]}


def plain_words(body: Mapping[str, Any]) -> int | None:
    """N when the answer is the N words of `[[words=N]]` and nothing else in the request changes them, else None.

    It lets a server keep the frames of such answers. Raises DemoRequestError.
    """
    text = _last_user_text(body)
    directives = Directives() if _is_task(text) else Directives.from_text(text)
    changing = ("tool_choice", "response_format", "stop", "max_tokens", "max_completion_tokens", "n")
    if directives.words is None or any(body.get(name) is not None for name in changing):
        return None
    return directives.words if directives == Directives(words=directives.words) else None


def delay_of(body: Mapping[str, Any]) -> float | None:
    """The seconds of a `[[delay=...]]` directive. Raises DemoRequestError."""
    text = _last_user_text(body)
    return None if _is_task(text) else Directives.from_text(text).delay


def usage_of(body: Mapping[str, Any], *, completion_tokens: int, reasoning_tokens: int = 0) -> dict[str, Any]:
    """The usage object of an answer of so many tokens to this request."""
    prompt_tokens = _prompt_tokens(body)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }


def _fold(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name in ("content", "refusal", "reasoning_content"):
        if delta.get(name):
            message[name] = (message.get(name) or "") + delta[name]
    for call in delta.get("tool_calls", ()):
        calls = message.setdefault("tool_calls", [])
        if call["index"] == len(calls):
            calls.append({"id": call["id"], "type": "function", "function": dict(call["function"])})
        else:
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]


# --- the request -----------------------------------------------------------------------------------------------------

_OPENING = re.compile(r"\[\[(words|say|refuse|reason|finish|tool|args|no-tools|delay)(?:=|(?=\]\]))", re.IGNORECASE)
_CLOSING = re.compile(r"\]\](?!\])")


def _directives_in(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Each directive's name and value, and where it starts and ends."""
    at = 0
    while opening := _OPENING.search(text, at):
        name, start = opening[1].lower(), opening.end()
        closing = _CLOSING.search(text, start + len(_json_at(text, start)) if name == "args" else start)
        if closing is None:
            return
        at = closing.end()
        yield name, text[start : closing.start()], opening.start(), at


def _json_at(text: str, start: int) -> str:
    """The JSON value that stands here with `]]` behind it: it may hold brackets of its own. Empty if none does."""
    try:
        end = json.JSONDecoder().raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return ""
    return text[start:end] if text.startswith("]]", end) else ""


def _without_directives(text: str) -> str:
    kept, at = [], 0
    for _, _, start, end in _directives_in(text):
        kept.append(text[at:start].rstrip())
        at = end
    return "".join([*kept, text[at:]]).strip() if at else text


@dataclass(frozen=True)
class Directives:
    """What the last user message asks for in double brackets."""

    words: int | None = None
    say: str | None = None
    refuse: str | None = None
    reason: str | None = None
    finish: str | None = None
    delay: float | None = None
    no_tools: bool = False
    tools: tuple[str, ...] = ()
    args: tuple[str, ...] = ()

    @classmethod
    def from_text(cls, text: str) -> "Directives":
        """Raises DemoRequestError when a value is not one that the directive takes."""
        if "[[" not in text:
            return cls()
        found = [(name, value) for name, value, _, _ in _directives_in(text)]
        last = dict(found)
        words = _number(last, "words", MAX_WORDS)
        return cls(
            words=None if words is None else int(words),
            say=last.get("say"),
            refuse=(last["refuse"] or REFUSAL) if "refuse" in last else None,
            reason=(last["reason"] or REASONING) if "reason" in last else None,
            finish=_finish_reason(last.get("finish")),
            delay=_number(last, "delay", MAX_DELAY),
            no_tools="no-tools" in last,
            tools=tuple(value.strip() for name, value in found if name == "tool"),
            args=tuple(value for name, value in found if name == "args"),
        )

    @property
    def fix_the_answer(self) -> bool:
        return self.words is not None or self.say is not None or self.refuse is not None


def _number(given: Mapping[str, str], name: str, most: float) -> float | None:
    if name not in given:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", given[name]) and float(given[name]) <= most:
        return float(given[name])
    raise DemoRequestError(f"[[{name}=...]] takes a number from 0 to {most:g}.", param="messages")


def _finish_reason(given: str | None) -> str | None:
    if given is not None and given not in FINISH_REASONS:
        raise DemoRequestError(f"[[finish=...]] takes one of {', '.join(sorted(FINISH_REASONS))}.", param="messages")
    return given


@dataclass(frozen=True)
class Tool:
    """A function tool that the request offers."""

    name: str
    description: str
    schema: Any

    @property
    def is_handoff(self) -> bool:
        return self.name.startswith(HANDOFF_PREFIX)

    def likeness(self, words: frozenset[str]) -> int:
        """How well the tool fits a text of these words; a word of the name counts twice."""
        return 2 * len(words & _words(self.name)) + len(words & _words(self.description))


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str


@dataclass(frozen=True)
class Request:
    """A request body that has been checked, in the demo's own terms. `recent` is what follows the last user message."""

    body: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]
    recent: Sequence[Mapping[str, Any]]
    text: str
    directives: Directives
    tools: Mapping[str, Tool] = field(default_factory=dict)
    choice: str = "auto"  # auto, none, required, or a tool's name after "="
    is_task: bool = False

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Request":
        messages = _checked_messages(body)
        if body.get("n") not in (None, 1):
            raise DemoRequestError("The demo upstream gives one answer: leave out `n`, or set it to 1.", param="n")
        _max_words(body)
        tools = _checked_tools(body)
        text = _last_user_text(body)
        return cls(
            body=body,
            messages=messages,
            recent=messages[_last_user_index(messages) + 1 :],
            text=_without_directives(text),
            # A chat UI's task quotes the conversation, directives and all: they were meant for the chat.
            directives=Directives() if _is_task(text) else Directives.from_text(text),
            tools=tools,
            choice=_tool_choice(body, tools),
            is_task=_is_task(text),
        )

    @cached_property
    def called(self) -> list[str]:
        """The names of the tools called since the last user message, in order."""
        return [call["function"]["name"] for message in self.recent for call in message.get("tool_calls") or ()]

    @cached_property
    def results(self) -> list[tuple[str, str]]:
        """Name and output of each ordinary tool's result since the last user message."""
        names = {
            call["id"]: call["function"]["name"] for message in self.recent for call in message.get("tool_calls") or ()
        }
        given = [
            (names.get(message.get("tool_call_id", ""), "a tool"), _text_of(message))
            for message in self.recent
            if message["role"] == "tool"
        ]
        return [(name, output) for name, output in given if not name.startswith(HANDOFF_PREFIX)]

    @cached_property
    def digest(self) -> str:
        return hashlib.blake2b(json.dumps(self.body, default=str).encode(), digest_size=8).hexdigest()


def _checked_messages(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DemoRequestError("`messages` must be a list with at least one message.", param="messages")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        open_calls = _checked_message(message, f"messages[{index}]", open_calls)
    if open_calls:
        raise _unanswered(open_calls, f"messages[{len(messages) - 1}]")
    return messages


def _checked_message(message: Any, where: str, open_calls: set[str]) -> set[str]:
    """The ids of the tool calls that wait for their result after this message. Raises DemoRequestError."""
    if not isinstance(message, Mapping) or str(message.get("role")) not in ROLES:
        raise DemoRequestError(f"`{where}` needs a role, one of {', '.join(sorted(ROLES))}.", param=where)
    _text_of(message, where)
    if message["role"] == "tool":
        answered = str(message.get("tool_call_id"))
        if answered not in open_calls:
            raise DemoRequestError(f"`{where}` answers no tool call of the assistant message before it.", param=where)
        return open_calls - {answered}
    if open_calls:
        raise _unanswered(open_calls, where)
    return {_checked_call(call, where) for call in _listed(message, "tool_calls", where)}


def _listed(given: Mapping[str, Any], name: str, where: str = "") -> list[Any]:
    """The list under this name, an empty one when there is none. Raises DemoRequestError."""
    value = given.get(name)
    if value is None or isinstance(value, list):
        return value or []
    param = f"{where}.{name}" if where else name
    raise DemoRequestError(f"`{param}` must be a list.", param=param)


def _checked_call(call: Any, where: str) -> str:
    match call:
        case {"id": str(identifier), "function": {"name": str(), "arguments": str()}}:
            return identifier
    raise DemoRequestError(f"A tool call of `{where}` needs an id, and a function's name and arguments.", param=where)


def _unanswered(open_calls: set[str], where: str) -> DemoRequestError:
    missing = ", ".join(sorted(open_calls))
    return DemoRequestError(f"Tool calls without a result before or at `{where}`: {missing}.", param="messages")


def _checked_tools(body: Mapping[str, Any]) -> dict[str, Tool]:
    tools = {}
    for index, tool in enumerate(_listed(body, "tools")):
        match tool:
            case {"type": "function", "function": {"name": str(name)} as function}:
                description = function.get("description") or ""
                tools[name] = Tool(name, str(description), function.get("parameters") or {"type": "object"})
            case _:
                raise DemoRequestError("A tool needs type `function` and a function's name.", param=f"tools[{index}]")
    return tools


def _tool_choice(body: Mapping[str, Any], tools: Mapping[str, Tool]) -> str:
    match body.get("tool_choice"):
        case None:
            return "auto"
        case "auto" | "none" | "required" as choice:
            return str(choice)
        case {"function": {"name": str(name)}} if name in tools:
            return f"={name}"
    raise DemoRequestError(
        "`tool_choice` must be auto, none, required, or name an offered function.", param="tool_choice"
    )


def _max_words(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        given = body.get(name)
        if given is None:
            continue
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise DemoRequestError(f"`{name}` must be a whole number of 1 or more.", param=name)
        return given
    return None


def _wants_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


def _last_user_index(messages: Sequence[Mapping[str, Any]]) -> int:
    return next((index for index in reversed(range(len(messages))) if messages[index]["role"] == "user"), -1)


def _last_user_text(body: Mapping[str, Any]) -> str:
    messages = _checked_messages(body)
    index = _last_user_index(messages)
    return "" if index < 0 else _text_of(messages[index])


def _is_task(text: str) -> bool:
    """True for what chat UIs ask in the background of a chat: a title, tags, follow-ups."""
    return text.startswith(("### Task:", "#### Task:"))


def _text_of(message: Mapping[str, Any], where: str = "messages") -> str:
    """The text of a message, its parts joined by line breaks. Raises DemoRequestError."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return _printable(content)
    if not isinstance(content, list):
        raise DemoRequestError(f"`{where}.content` must be a string or a list of parts.", param=f"{where}.content")
    return "\n".join(_printable(part) for part in map(_part_text, content) if part is not None)


def _part_text(part: Any) -> str | None:
    """The text of a part, None for one of another kind. Raises DemoRequestError."""
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "image_url" | "input_audio" | "file"}:
            return None
    raise DemoRequestError("A content part must be text, refusal, image_url, input_audio or file.", param="messages")


def _printable(text: str) -> str:
    """Lone surrogates, legal in JSON and not in UTF-8, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _media_counts(messages: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts = dict.fromkeys(MEDIA.values(), 0)
    for message in messages:
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part["type"] in MEDIA:
                counts[MEDIA[part["type"]]] += 1
    return counts


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    messages = body["messages"]
    tokens = 85 * sum(_media_counts(messages).values()) + 4 * len(messages)
    for message in messages:
        tokens += math.ceil(len(_text_of(message)) / 4)
        for call in message.get("tool_calls") or ():
            tokens += math.ceil(len(call["function"]["name"]) / 4) + math.ceil(len(call["function"]["arguments"]) / 4)
    return tokens + sum(math.ceil(len(json.dumps(tool, default=str)) / 4) for tool in body.get("tools") or ())


# --- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What is to be said: one of content, refusal and calls, perhaps after some reasoning."""

    content: str = ""
    refusal: str = ""
    calls: Sequence[Call] = ()
    reasoning: str = ""
    finish_reason: str = "stop"


def _answer(request: Request) -> Answer:
    answer = _unlimited_answer(request)
    content, finish_reason = _limited(answer, request.body)
    finish_reason = request.directives.finish or finish_reason
    reasoning = request.directives.reason or ""
    return Answer(content, answer.refusal, answer.calls, reasoning, finish_reason)


def _unlimited_answer(request: Request) -> Answer:
    directives = request.directives
    if request.is_task and not _asks_for_json(request):
        return Answer(content=_task_answer(request.text))
    if names := _tools_to_call(request):
        return Answer(calls=_calls(request, names), finish_reason="tool_calls")
    if directives.refuse is not None:
        return Answer(refusal=directives.refuse)
    if directives.say is not None:
        return Answer(content=directives.say)
    if directives.words is not None:
        return Answer(content=" ".join(f"word{number}" for number in range(1, directives.words + 1)))
    return Answer(content=_json_answer(request) if _asks_for_json(request) else _prose(request))


def _limited(answer: Answer, body: Mapping[str, Any]) -> tuple[str, str]:
    """Content and finish_reason after `stop` and `max_tokens`; calls and refusals are not cut."""
    ends = [at for stop in _stops(body) if (at := answer.content.find(stop)) >= 0]
    content = answer.content[: min(ends)] if ends else answer.content
    most = _max_words(body)
    pieces = _pieces(content)
    if most is not None and len(pieces) > most:
        return "".join(pieces[:most]).rstrip(), "length"
    return content, answer.finish_reason


def _stops(body: Mapping[str, Any]) -> list[str]:
    given = body.get("stop")
    stops = [given] if isinstance(given, str) else _listed(body, "stop")
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise DemoRequestError("`stop` must be a text or a list of texts, none of them empty.", param="stop")
    return stops


def _stream(request: Request, answer: Answer, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    model = request.body.get("model") or MODEL
    head = {"id": f"chatcmpl-demo-{request.digest}", "object": "chat.completion.chunk", "created": CREATED}
    head |= {"model": model, "system_fingerprint": "demo"}
    usage = {"usage": None} if with_usage else {}

    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return head | {"choices": [choice]} | usage

    yield chunk({"role": "assistant", "content": None if answer.calls else ""})
    pieces = 0
    for delta in _deltas(request, answer):
        pieces += 1
        yield chunk(delta)
    yield chunk({}, answer.finish_reason)
    if with_usage:
        reasoning = len(_pieces(answer.reasoning))
        counted = usage_of(request.body, completion_tokens=pieces, reasoning_tokens=reasoning)
        yield head | {"choices": [], "usage": counted}


def _deltas(request: Request, answer: Answer) -> Iterator[dict[str, Any]]:
    for name, text in (
        ("reasoning_content", answer.reasoning),
        ("content", answer.content),
        ("refusal", answer.refusal),
    ):
        for piece in _pieces(text):
            yield {name: piece}
    earlier = sum(len(message.get("tool_calls") or ()) for message in request.messages)
    for index, call in enumerate(answer.calls):
        identifier = f"call_demo_{earlier + index}_{request.digest[:8]}"
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": identifier, "type": "function", "function": function}]}
        for fragment in _fragments(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}


def _pieces(text: str) -> list[str]:
    """A text word by word, each with the blanks behind it: joined, they are the text."""
    return re.findall(r"\s+\S*\s*|\S+\s*", text)


def _fragments(arguments: str) -> Iterator[str]:
    step = max(1, math.ceil(len(arguments) / 4))
    return (arguments[start : start + step] for start in range(0, len(arguments), step))


# --- prose, and what chat UIs ask for in the background --------------------------------------------------------------


def _prose(request: Request) -> str:
    said = f" You said: “{_short(request.text)}”." if request.text else " You said nothing in words."
    paragraphs = [f"{GREETING}{_role_played(request)}{said}", _seen(request), *_told(request), REMEDY]
    return "\n\n".join([" ".join(paragraphs[:2]), *paragraphs[2:-1], paragraphs[-1]])


def _role_played(request: Request) -> str:
    instructions = [_text_of(message) for message in request.messages if message["role"] in ("system", "developer")]
    given = " ".join(filter(None, instructions))
    return f" My instructions are: “{_short(given, 120)}”." if given else ""


def _seen(request: Request) -> str:
    turns = [_text_of(message) for message in request.messages if message["role"] == "user"]
    seen = f"I was sent {_count(len(request.messages), 'message')}, {len(turns)} of them yours"
    if len(turns) > 1:
        seen += f"; the first was “{_short(_without_directives(turns[0]))}”"
    media = [_count(number, kind) for kind, number in _media_counts(request.messages).items() if number]
    return f"{seen}{', with ' + ' and '.join(media) if media else ''}."


def _told(request: Request) -> Iterator[str]:
    if handoff := _handoff_taken(request):
        yield f"I came here by the handoff {handoff}."
    for name, output in request.results:
        yield f"The tool {name} returned: {output}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()}…"


_TASK_ANSWERS: Mapping[str, Callable[[str], Any]] = {
    "title": lambda said: f"Demo: {said}",
    "tags": lambda _: ["Demo", "General"],
    "follow_ups": lambda _: [
        "What can the demo upstream do?",
        "How do I connect a real model?",
        "Which agents are here?",
    ],
    "queries": lambda said: [said],
    "text": lambda _: "",
}


def _task_answer(text: str) -> str:
    """The JSON that a background request of a chat UI asks for (Open WebUI's title, tags, follow-ups and queries)."""
    asked = re.sub(r"<chat_history>.*?</chat_history>", "", text, flags=re.DOTALL)
    places = {name: asked.find(f'"{name}"') for name in _TASK_ANSWERS}
    named = sorted((place, name) for name, place in places.items() if place >= 0)
    if not named:
        return f"{GREETING} It does no such task."
    name = named[0][1]
    return json.dumps({name: _TASK_ANSWERS[name](_first_words_of_chat(text))}, ensure_ascii=False)


def _first_words_of_chat(text: str) -> str:
    said = re.search(r"<chat_history>\s*(?:USER:\s*)?(.*?)\s*(?:ASSISTANT:|</chat_history>)", text, re.DOTALL)
    words = _without_directives(said[1]).split() if said else []
    return " ".join(words[:6]) or "a chat"


def _asks_for_json(request: Request) -> bool:
    return _response_format(request).get("type") in ("json_schema", "json_object")


def _response_format(request: Request) -> Mapping[str, Any]:
    given = request.body.get("response_format")
    return given if isinstance(given, Mapping) else {}


def _json_answer(request: Request) -> str:
    told = [f"{name} returned: {output}" for name, output in request.results]
    given = _response_format(request).get("json_schema")
    if isinstance(given, Mapping) and "schema" in given:
        prose = " ".join([GREETING, *told])
        return _filled(given["schema"], Hints.from_text(request.text, prose), param="response_format")
    answer = {"demo": True, "message": GREETING, "you_said": request.text, "tool_results": told}
    return json.dumps(answer, ensure_ascii=False)


# --- which tools to call ---------------------------------------------------------------------------------------------

_SMALL_TALK = re.compile(
    r"(hi|hello|hey|hiya|howdy|greetings|good (morning|afternoon|evening|day)|thanks|thank you|thx|cheers|bye|goodbye)"
    r"( (hi|hello|there|all|everyone|demo|again|you|so much|very much|a lot|how are you|thanks|thank you|bye))*",
    re.IGNORECASE,
)
_COMMON = """
a about agent all an and any are as at be by can could do does for from get give handle handoff has have how i in into
is it its me my of on or our please request return returns some tell that the their them then there these they this to
tool transfer up use user using want was we what when where which who will with would you your
"""
_COMMON_WORDS = frozenset(_COMMON.split())


def _words(text: str) -> frozenset[str]:
    """The words that tell one text from another: lower case, endings cut, names split at underscores and capitals."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).lower()
    found = frozenset(re.findall(r"[^\W\d_]{2,}", spaced))
    return frozenset(map(_stem, found - _COMMON_WORDS))


def _stem(word: str) -> str:
    if word.endswith("ing") and len(word) > 5:
        return word[:-3]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _is_small_talk(text: str) -> bool:
    return _SMALL_TALK.fullmatch(" ".join(re.findall(r"[^\W_]+", text))) is not None


def _handoff_taken(request: Request) -> str:
    """The handoff since the last user message: an agent that nests its history tells it in prose. Empty if none."""
    taken = [name for name in request.called if name.startswith(HANDOFF_PREFIX)]
    told = [match[0] for message in request.recent for match in re.finditer(r"\btransfer_to_\w+", _text_of(message))]
    return next(iter(taken + told), "")


def _tools_to_call(request: Request) -> list[str]:
    """The names of the tools to call now; none means that it is time to answer."""
    if request.directives.no_tools or request.choice == "none":
        return []
    handoffs = [] if _handoff_taken(request) else [tool for tool in request.tools.values() if tool.is_handoff]
    ordered = [name for name in request.directives.tools if name not in request.called]
    if ordered and handoffs and not set(ordered) <= request.tools.keys():
        return [_best(handoffs, request).name]
    if ordered:
        return ordered if _may_call_several(request) else ordered[:1]
    if any(not name.startswith(HANDOFF_PREFIX) for name in request.called):
        return []
    if request.choice.startswith("="):
        return [name for name in [request.choice.removeprefix("=")] if name not in request.called]
    return _chosen(request, handoffs) if _may_choose(request) else []


def _may_choose(request: Request) -> bool:
    if request.choice == "required":
        return True
    return not request.directives.fix_the_answer and not _is_small_talk(request.text)


def _chosen(request: Request, handoffs: Sequence[Tool]) -> list[str]:
    words = _words(request.text)
    ordinary = [tool for tool in request.tools.values() if not tool.is_handoff]
    by_likeness = sorted(ordinary, key=lambda tool: -tool.likeness(words))
    if handoffs:
        best = _best(handoffs, request)
        if best.likeness(words) or not (by_likeness and by_likeness[0].likeness(words)):
            return [best.name]
    return [tool.name for tool in by_likeness[: 2 if _fits_two(request, by_likeness, words) else 1]]


def _best(tools: Sequence[Tool], request: Request) -> Tool:
    words = _words(request.text)
    return max(tools, key=lambda tool: tool.likeness(words))


def _fits_two(request: Request, by_likeness: Sequence[Tool], words: frozenset[str]) -> bool:
    """True when the text names two tools, each by a word of its name that is not in the other's."""
    if len(by_likeness) < 2 or not _may_call_several(request):
        return False
    first, second = (words & _words(tool.name) for tool in by_likeness[:2])
    return bool(first - second) and bool(second - first)


def _may_call_several(request: Request) -> bool:
    return request.body.get("parallel_tool_calls") is not False


def _calls(request: Request, names: Sequence[str]) -> list[Call]:
    return [Call(name, _arguments(request, name, nth)) for nth, name in enumerate(names)]


def _arguments(request: Request, name: str, nth: int) -> str:
    directives = request.directives
    place = directives.tools.index(name) if name in directives.tools else nth
    if place < len(directives.args) and not name.startswith(HANDOFF_PREFIX):
        return directives.args[place]
    if name not in request.tools:
        return "{}"
    return _filled(request.tools[name].schema, Hints.from_text(request.text), param="tools")


def _filled(schema: Any, hints: "Hints", *, param: str) -> str:
    """JSON that fits the schema. Raises DemoRequestError when it is no schema."""
    try:
        return json.dumps(fitting(schema, hints), ensure_ascii=False)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise DemoRequestError(f"A schema in `{param}` is not a JSON schema: {error}", param=param) from error


# --- values that fit a JSON schema -----------------------------------------------------------------------------------

MAX_DEPTH = 6  # beyond it, or so many values, a schema that refers to itself is filled with as little as it allows
MAX_VALUES = 500
MAX_SIZE = 10_000  # items, characters or properties that a schema may demand

_PROSE = """
answer comment content description details input instruction instructions message notes output prompt query question
reason reasoning reply request response search summary task text thought
"""
_PROSE_NAMES = frozenset(_PROSE.split())
_FORMATS: Mapping[str, tuple[str, str]] = {  # what it looks like in a text, and what stands in when it is not there
    "date": (r"\b\d{4}-\d\d-\d\d\b", "2026-01-15"),
    "date-time": (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "2026-01-15T12:00:00Z"),
    "time": (r"(?!)", "12:00:00Z"),
    "duration": (r"(?!)", "P1D"),
    "email": (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", "demo@example.com"),
    "uri": (r"https?://[^\s<>\"'”)\]]+[^\s<>\"'”)\].,;:!?]", "https://example.com/demo"),
    "uuid": (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "00000000-0000-4000-8000-000000000000"),
    "hostname": (r"(?!)", "example.com"),
    "ipv4": (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "192.0.2.1"),
    "ipv6": (r"(?!)", "2001:db8::1"),
}
_FORMAT_OF_NAME = {"email": "email", "mail": "email", "url": "uri", "uri": "uri", "link": "uri", "date": "date"}
_PATTERN_TRIES = ("demo", "Demo", "DEMO", "d", "D", "1", "12", "123", "1234", "12345", "D1", "A-1", "ABC-123", "ABC123")


@dataclass
class Hints:
    """What a text offers for the values of a schema. Names and numbers are used up in the order of the text."""

    text: str
    prose: str
    names: list[str]
    numbers: list[str]

    @classmethod
    def from_text(cls, text: str, prose: str | None = None) -> "Hints":
        """`prose` is for properties that want a whole text; the text itself unless given."""
        return cls(text, text if prose is None else prose, _names_in(text), re.findall(r"-?\d+(?:\.\d+)?", text))

    def string(self, name: str) -> str:
        words = re.findall(r"[a-z]+", name.lower())
        if words and words[-1] in _FORMAT_OF_NAME:
            return self.formatted(_FORMAT_OF_NAME[words[-1]])
        if words and words[-1] in _PROSE_NAMES:
            return self.prose or "demo"
        return self.names.pop(0) if self.names else "demo"

    def formatted(self, format_: str) -> str:
        looks_like, stand_in = _FORMATS[format_]
        found = re.search(looks_like, self.text, re.IGNORECASE)
        return found[0] if found else stand_in

    def number(self) -> float:
        return float(self.numbers.pop(0)) if self.numbers else 1.0

    def truth(self, name: str) -> bool:
        """True when the text has all the words of the property's name: `is_urgent` and “this is urgent”."""
        words = _words(name)
        return bool(words) and words <= _words(self.text)


def _names_in(text: str) -> list[str]:
    """What a text puts in quotes, else its capitalised words inside sentences, else the word after a preposition."""
    quoted = re.findall(r"[\"“„«]([^\"“”„«»]+)[\"”“»]|(?<!\w)'([^']+)'(?!\w)", text)
    if quoted:
        return ["".join(groups) for groups in quoted]
    capitalised = re.findall(r"(?<![.!?:]\s)(?<!^)(?<!\w)[^\W\d_a-z][\w-]+(?:\s[^\W\d_a-z][\w-]+)*", text)
    found = [name for name in capitalised if name[0].isupper()]
    return found or re.findall(r"\b(?:in|at|to|from|for|called|named) (?!the\b|my\b|me\b|a\b)([^\W\d_]+)", text)


def fitting(schema: Any, hints: Hints) -> Any:
    """A value that fits a JSON schema, made of what the hints offer.

    An object gets its required properties, or all of them when it requires none. Heeds what Pydantic and the Agents SDK
    write into schemas; `not`, `if`, `contains`, `dependentRequired` and most `pattern`s are beyond it.
    """
    return _Filling(schema, hints).value(schema, name="", depth=0)


class _Filling:
    """One value in the making: the root resolves references, the hints are used up as it grows."""

    def __init__(self, root: Any, hints: Hints) -> None:
        self.root = root
        self.hints = hints
        self.made = 0

    def is_enough(self, depth: int) -> bool:
        return depth >= MAX_DEPTH or self.made >= MAX_VALUES

    def value(self, schema: Any, *, name: str, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return "demo"
        self.made += 1
        schema = self.flat(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self.member(schema["enum"])
        for given in ("default", "example"):
            if given in schema:
                return schema[given]
        if schema.get("examples"):
            return schema["examples"][0]
        return self.typed(schema, name=name, depth=depth)

    def typed(self, schema: Mapping[str, Any], *, name: str, depth: int) -> Any:
        match _type_of(schema):
            case "object":
                return self.object(schema, depth)
            case "array":
                return self.array(schema, name, depth)
            case "integer" | "number" as kind:
                return _bounded(self.hints.number(), schema, whole=kind == "integer")
            case "boolean":
                return self.hints.truth(name)
            case "null":
                return None
        return self.string(schema, name)

    def flat(self, schema: Mapping[str, Any], depth: int, hops: int = 0) -> Mapping[str, Any]:
        """The schema with its reference, its `allOf` and the chosen one of `anyOf` or `oneOf` merged into it."""
        if hops > 16:  # references that lead in a circle
            return {}
        merged = dict(schema)
        parts = [self.referred(merged.pop("$ref"))] if "$ref" in merged else []
        parts += merged.pop("allOf", ())
        for key in ("anyOf", "oneOf"):
            if branches := merged.pop(key, ()):
                parts.append(_branch(branches, smallest=self.is_enough(depth)))
        for part in parts:
            merged = _merged(merged, self.flat(part, depth, hops + 1) if isinstance(part, Mapping) else {})
        return merged

    def referred(self, reference: str) -> Any:
        """The schema that a reference such as `#/$defs/Node` points to; {} when it points to nothing here."""
        found = self.root
        for key in filter(None, reference.removeprefix("#").split("/")):
            found = found.get(key.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        return found

    def member(self, members: Sequence[Any]) -> Any:
        """The member that the text names, else the first that is not null."""
        text = self.hints.text.lower()
        named = [one for one in members if isinstance(one, str) and re.search(rf"\b{re.escape(one.lower())}\b", text)]
        return next(iter(named + [one for one in members if one is not None]), None)

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or ()
        all_wanted = not required and not self.is_enough(depth)
        optional = [key for key in properties if all_wanted and "default" not in properties[key]]
        wanted = [key for key in properties if key in required or key in optional]
        wanted += [key for key in required if key not in properties]
        made = {key: self.value(properties.get(key, {}), name=key, depth=depth + 1) for key in wanted}
        return made | self.further(schema, made, depth)

    def further(self, schema: Mapping[str, Any], made: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Further keys, for objects that need more than the properties that they name, and one for a mapping."""
        additional = schema.get("additionalProperties", {})
        is_mapping = not made and isinstance(additional, Mapping) and bool(additional) and not self.is_enough(depth)
        least = max(_size(schema, "minProperties"), int(is_mapping))
        keys = [key for key in schema.get("properties") or {} if key not in made]
        keys += [f"demo{number}" for number in range(1, least + 1)]
        properties = schema.get("properties") or {}
        return {
            key: self.value(properties.get(key, additional), name=key, depth=depth + 1)
            for key in keys[: max(0, least - len(made))]
        }

    def array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems") or ()
        length = max(_size(schema, "minItems"), len(first), 0 if self.is_enough(depth) else 1)
        if schema.get("maxItems") is not None:
            length = min(length, schema["maxItems"])
        rest = schema.get("items", {})
        made: list[Any] = []
        for index in range(length):
            item = first[index] if index < len(first) else rest
            value = self.value(item, name=name.removesuffix("s"), depth=depth + 1)
            made.append(self.another(item, value, made, depth) if schema.get("uniqueItems") else value)
        return made

    def another(self, schema: Any, value: Any, taken: Sequence[Any], depth: int) -> Any:
        """The value, or one like it that is not taken."""
        flat = self.flat(schema, depth) if isinstance(schema, Mapping) else {}
        free = [one for one in flat.get("enum") or () if one not in taken]
        if value not in taken or (not free and not isinstance(value, (str, int, float))):
            return value
        if free:
            return free[0]
        if not isinstance(value, str):
            return max(taken) + (flat.get("multipleOf") or 1)
        number = str(len(taken) + 1)
        return value[: flat.get("maxLength", len(value) + len(number)) - len(number)] + number

    def string(self, schema: Mapping[str, Any], name: str) -> str:
        format_ = schema.get("format")
        value = self.hints.formatted(str(format_)) if format_ in _FORMATS else self.hints.string(name)
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            value = next((one for one in (value, *_PATTERN_TRIES) if _matches(pattern, one)), value)
        value, most = value.ljust(_size(schema, "minLength"), "x"), schema.get("maxLength")
        return value if most is None else value[:most]


def _size(schema: Mapping[str, Any], name: str) -> int:
    """Raises ValueError for one that is out of all proportion."""
    size = int(schema.get(name, 0))
    if size > MAX_SIZE:
        raise ValueError(f"{name} is more than {MAX_SIZE}")
    return size


def _type_of(schema: Mapping[str, Any]) -> str:
    """The schema's type, the first that is not null of several; guessed from its other words when it names none."""
    given = schema.get("type")
    if isinstance(given, list):
        given = next((one for one in given if one != "null"), "null")
    if isinstance(given, str):
        return given
    signs = {"properties": "object", "required": "object", "items": "array", "prefixItems": "array"}
    signs |= {"minimum": "number", "maximum": "number", "multipleOf": "number"}
    return next((kind for sign, kind in signs.items() if sign in schema), "string")


def _branch(branches: Sequence[Any], *, smallest: bool) -> Any:
    """The first branch that is not null, unless the smallest is wanted."""
    nulls = [one for one in branches if isinstance(one, Mapping) and one.get("type") == "null"]
    if nulls and smallest:
        return nulls[0]
    return next((one for one in branches if one not in nulls), branches[0])


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both schemas at once: properties and required add up, else the first one's word counts."""
    both = dict(other) | dict(one)
    if "properties" in one and "properties" in other:
        both["properties"] = dict(other["properties"]) | dict(one["properties"])
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def _bounded(value: float, schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """The number nearest to the value that keeps to the schema's bounds and is a multiple of its step."""
    step = schema.get("multipleOf") or (1 if whole else None)
    low, high = _low(schema, step), _high(schema, step)
    if low is not None and high is not None and low > high:
        low = high = (low + high) / 2  # exclusive bounds closer together than 1
    value = value if low is None else max(value, low)
    value = value if high is None else min(value, high)
    if step:
        count = round(value / step)
        count += 1 if low is not None and count * step < low else 0
        count -= 1 if high is not None and count * step > high else 0
        value = count * step
    return int(value) if float(value).is_integer() else value


def _low(schema: Mapping[str, Any], step: float | None) -> float | None:
    low, beyond = schema.get("minimum"), schema.get("exclusiveMinimum")
    if beyond is True:  # JSON Schema draft 4, and OpenAPI 3.0
        beyond, low = low, None
    if beyond is None or beyond is False:
        return low
    inside: float = beyond + (step or 1)
    return inside if low is None else max(low, inside)


def _high(schema: Mapping[str, Any], step: float | None) -> float | None:
    high, beyond = schema.get("maximum"), schema.get("exclusiveMaximum")
    if beyond is True:
        beyond, high = high, None
    if beyond is None or beyond is False:
        return high
    inside: float = beyond - (step or 1)
    return inside if high is None else min(high, inside)


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # JavaScript's dialect
        return True
