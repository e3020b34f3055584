"""An LLM server with the Responses API beside chat completions: the request's model names the answer.

    python -m tests.fakes.responses_upstream --port N

`GET /v1/models` lists the models, ANSWERS below describes each; a prompt without a model is answered with its id. Chat
completions of every model are answered with "By chat completions.". `GET /last` is the last request (path, headers,
body); `GET /stats` counts as those of the other fakes.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.fakes.faulty_upstream import (
    Dropped,
    Exchange,
    FaultyUpstream,
    HttpRequest,
    chunk,
    openai_error,
    rate_limited,
    said,
)

Event = dict[str, Any]

PIECES = ("It", " rains", " in Oslo.")
TEXT = "".join(PIECES)
CHAT_PIECES = ("By chat", " completions.")
USAGE = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 52,
}
CITATION = {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "Yr", "url": "https://www.yr.no"}


# --- items of an answer, each with the events that announce it -------------------------------------------------------


@dataclass
class Telling:
    """The events of one answer, numbered; `output` grows as items are done."""

    body: dict[str, Any]
    output: list[Event]
    number: int = 0

    def event(self, type: str, **fields: Any) -> Event:
        self.number += 1
        return {"type": type, "sequence_number": self.number, **fields}

    def response(self, status: str, **fields: Any) -> Event:
        return {
            "id": "resp_1", "object": "response", "created_at": 1_763_596_800, "status": status,
            "model": self.body.get("model", "prompted"), "output": self.output, "tools": self.body.get("tools", []),
            "parallel_tool_calls": True, "tool_choice": "auto", "error": None, "incomplete_details": None, **fields,
        }  # fmt: skip

    def item(self, begun: Event, between: Iterator[Event], done: Event) -> Iterator[Event]:
        place = len(self.output)
        yield self.event("response.output_item.added", output_index=place, item=begun)
        yield from between
        self.output.append(done)
        yield self.event("response.output_item.done", output_index=place, item=done)

    def message(self, *pieces: str, refusal: bool = False, annotations: list[Event] | None = None) -> Iterator[Event]:
        place, kind = len(self.output), "refusal" if refusal else "output_text"
        head = {"type": "message", "id": f"msg_{place}", "role": "assistant"}
        part = {"type": "refusal", "refusal": "".join(pieces)}
        if not refusal:
            part = {"type": "output_text", "text": "".join(pieces), "annotations": annotations or []}  # type: ignore[dict-item]
        at = {"item_id": f"msg_{place}", "output_index": place, "content_index": 0}

        def between() -> Iterator[Event]:
            yield self.event("response.content_part.added", **at, part={"type": kind, "annotations": []})
            for piece in pieces:
                yield self.event(f"response.{kind}.delta", **at, delta=piece)
            for number, one in enumerate(annotations or ()):
                yield self.event("response.output_text.annotation.added", **at, annotation_index=number, annotation=one)
            yield self.event("response.content_part.done", **at, part=part)

        yield from self.item(
            {**head, "status": "in_progress", "content": []},
            between(),
            {**head, "status": "completed", "content": [part]},
        )

    def search(self) -> Iterator[Event]:
        place = len(self.output)
        head = {"type": "web_search_call", "id": f"ws_{place}"}
        stages = ("in_progress", "searching", "completed")
        between = (
            self.event(f"response.web_search_call.{stage}", item_id=head["id"], output_index=place) for stage in stages
        )
        action = {"type": "search", "query": "weather Oslo"}
        yield from self.item(
            {**head, "status": "in_progress"}, between, {**head, "status": "completed", "action": action}
        )

    def call(self, name: str, arguments: str) -> Iterator[Event]:
        place = len(self.output)
        head = {"type": "function_call", "id": f"fc_{place}", "call_id": f"call_{place}", "name": name}
        at = {"item_id": head["id"], "output_index": place}
        between = iter(
            [
                self.event("response.function_call_arguments.delta", **at, delta=arguments),
                self.event("response.function_call_arguments.done", **at, arguments=arguments, name=name),
            ]
        )
        yield from self.item(
            {**head, "status": "in_progress", "arguments": ""},
            between,
            {**head, "status": "completed", "arguments": arguments},
        )

    def thought(self, *pieces: str) -> Iterator[Event]:
        place = len(self.output)
        head = {"type": "reasoning", "id": f"rs_{place}"}
        at = {"item_id": head["id"], "output_index": place, "summary_index": 0}
        between = (self.event("response.reasoning_summary_text.delta", **at, delta=piece) for piece in pieces)
        done = {**head, "summary": [{"type": "summary_text", "text": "".join(pieces)}]}
        yield from self.item({**head, "summary": []}, between, done)

    def unknown(self) -> Iterator[Event]:
        yield self.event("response.telepathy.started", item_id="tp_1", strength=3)
        yield self.event("response.telepathy.delta", item_id="tp_1", delta="?")

    def unknown_item(self) -> Iterator[Event]:
        head = {"type": "telepathy_call", "id": f"tp_{len(self.output)}", "strength": 3}
        yield from self.item({**head, "status": "in_progress"}, iter([]), {**head, "status": "completed"})

    def end(self, status: str = "completed", **fields: Any) -> Iterator[Event]:
        yield self.event(f"response.{status}", response=self.response(status, usage=USAGE, **fields))


def tool_outputs(body: dict[str, Any]) -> list[str]:
    return [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]


# --- the answers -----------------------------------------------------------------------------------------------------


def text(tell: Telling) -> Iterator[Event]:
    yield from tell.message(*PIECES)
    yield from tell.end()


def search(tell: Telling) -> Iterator[Event]:
    yield from tell.search()
    yield from tell.unknown()
    yield from tell.message(*PIECES, annotations=[CITATION])
    yield from tell.end()


def future(tell: Telling) -> Iterator[Event]:
    yield from tell.unknown_item()
    yield from tell.message(*PIECES)
    yield from tell.end()


def tool(tell: Telling) -> Iterator[Event]:
    """A search and a call of the first function tool; then an answer that says what the tool returned."""
    if outputs := tool_outputs(tell.body):
        yield from tell.message("The tool says: ", *outputs)
    else:
        yield from tell.search()
        function = next(one for one in tell.body["tools"] if one["type"] == "function")
        yield from tell.call(function["name"], '{"city": "Oslo"}')
    yield from tell.end()


def handoff(tell: Telling) -> Iterator[Event]:
    """A search and a text; then the first function that is a handoff, if there is one."""
    yield from tell.search()
    yield from tell.message("I have searched.")
    functions = [one["name"] for one in tell.body.get("tools", ()) if one["type"] == "function"]
    if named := next((name for name in functions if name.startswith("transfer_to_")), None):
        yield from tell.call(named, "{}")
    yield from tell.end()


def reasoning(tell: Telling) -> Iterator[Event]:
    yield from tell.thought("Let me", " think.")
    yield from tell.message(*PIECES)
    yield from tell.end()


def refusal(tell: Telling) -> Iterator[Event]:
    yield from tell.message("I cannot", " do that.", refusal=True)
    yield from tell.end()


def length(tell: Telling) -> Iterator[Event]:
    yield from tell.message(*PIECES)
    yield from tell.end("incomplete", incomplete_details={"reason": "max_output_tokens"})


def filtered(tell: Telling) -> Iterator[Event]:
    yield from tell.message(PIECES[0])
    yield from tell.end("incomplete", incomplete_details={"reason": "content_filter"})


def failed(tell: Telling) -> Iterator[Event]:
    yield from tell.message(PIECES[0])
    yield from tell.end("failed", error={"code": "server_error", "message": "The model crashed."})


def limited(tell: Telling) -> Iterator[Event]:
    yield from tell.end("failed", error={"code": "rate_limit_exceeded", "message": "Slow down."})


def error_event(tell: Telling) -> Iterator[Event]:
    yield from tell.message(PIECES[0])
    yield tell.event("error", code="server_error", message="The model crashed.", param=None)


def prompted(tell: Telling) -> Iterator[Event]:
    prompt = tell.body["prompt"]
    yield from tell.message(f"Prompt {prompt['id']} with {json.dumps(prompt.get('variables'))}.")
    yield from tell.end()


ANSWERS: dict[str, Callable[[Telling], Iterator[Event]]] = {
    "r-text": text,
    "r-search": search,  # a web search, events that nobody knows, a text with a citation
    "r-future": future,  # an item that nobody knows, then a text
    "r-tool": tool,  # a web search and a function call, then an answer
    "r-handoff": handoff,  # a web search, a text, then a handoff where one is offered
    "r-reasoning": reasoning,  # a summary of reasoning, then a text
    "r-refusal": refusal,
    "r-length": length,  # cut at max_output_tokens
    "r-filtered": filtered,  # cut by the content filter
    "r-failed": failed,  # a word, then response.failed
    "r-limited": limited,  # response.failed of a rate limit
    "r-error": error_event,  # a word, then an error event
}


# --- how it is sent --------------------------------------------------------------------------------------------------


async def send(exchange: Exchange, events: Iterator[Event]) -> None:
    for one in events:
        data = json.dumps(one, ensure_ascii=False).encode()
        await exchange.part(b"event: " + one["type"].encode() + b"\ndata: " + data + b"\n\n")


async def properly(exchange: Exchange, answer: Callable[[Telling], Iterator[Event]]) -> None:
    tell = Telling(exchange.body, [])
    await exchange.begin_stream()
    await send(exchange, iter([tell.event("response.created", response=tell.response("in_progress"))]))
    await send(exchange, answer(tell))
    await exchange.end_stream()


async def begin(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await send(exchange, iter(list(Telling(exchange.body, []).message(*PIECES))[:-2]))


async def cut(exchange: Exchange) -> None:
    await begin(exchange)
    await exchange.end_stream()


async def drop(exchange: Exchange) -> None:
    await begin(exchange)
    raise Dropped


async def hang(exchange: Exchange) -> None:
    await begin(exchange)
    await exchange.wait(None)


async def garbage(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.part(b"data: this is {not JSON\n\n")
    await exchange.end_stream()


async def unauthorised(exchange: Exchange) -> None:
    await exchange.json(openai_error("Wrong key.", "invalid_request_error", "invalid_api_key"), 401)


async def bad_request(exchange: Exchange) -> None:
    await exchange.json(openai_error("Unknown parameter.", "invalid_request_error"), 400)


async def crash(exchange: Exchange) -> None:
    await exchange.json(openai_error("The server crashed."), 500)


FAULTS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "r-cut": cut,  # three pieces, then a proper end of the body
    "r-drop": drop,  # three pieces, then the connection ends
    "r-hang": hang,  # three pieces, then silence
    "r-garbage": garbage,
    "r-400": bad_request,
    "r-401": unauthorised,
    "r-429": rate_limited,  # with Retry-After: 7
    "r-500": crash,
}


class ResponsesUpstream(FaultyUpstream):
    async def respond(self, request: HttpRequest, exchange: Exchange) -> None:
        path = request.path.removeprefix("/v1")
        if (request.method, path) == ("GET", "/models"):
            await exchange.json({"object": "list", "data": [{"id": name} for name in [*ANSWERS, *FAULTS]]})
        elif (request.method, path) in {("POST", "/responses"), ("POST", "/chat/completions")}:
            exchange.body = json.loads(request.content)
            self.last = {"path": path, "headers": request.headers, "body": exchange.body}
            await self.chat(exchange)
        else:
            await super().respond(request, exchange)

    async def answer(self, exchange: Exchange) -> None:
        body = exchange.body
        if "messages" in body:
            await exchange.begin_stream()
            for one in [*said(*CHAT_PIECES), chunk() | {"choices": [], "usage": {"prompt_tokens": 4}}]:
                await exchange.part(b"data: " + json.dumps(one).encode() + b"\n\n")
            await exchange.part(b"data: [DONE]\n\n")
            await exchange.end_stream()
        elif fault := FAULTS.get(body.get("model", "")):
            await fault(exchange)
        elif "model" in body and body["model"] not in ANSWERS:
            await exchange.json(openai_error("No such model.", "invalid_request_error", "model_not_found"), 404)
        elif not (body.get("model") or body.get("prompt")):
            await exchange.json(openai_error("Missing required parameter: 'model'.", "invalid_request_error"), 400)
        else:
            await properly(exchange, prompted if "prompt" in body else ANSWERS[body["model"]])


async def main() -> None:
    parser = argparse.ArgumentParser(description="An LLM server with the Responses API.")
    parser.add_argument("--port", type=int, default=0)
    async with ResponsesUpstream().serving(parser.parse_args().port) as url:
        print(f"Responses upstream at {url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
