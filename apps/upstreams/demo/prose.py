"""The demo's prose: it says what it is, what it was told, and which tools answered what."""

from collections import Counter
from collections.abc import Iterator

from apps.upstreams.demo.directives import without_directives
from apps.upstreams.demo.messages import MEDIA, media_in, texts_of
from apps.upstreams.demo.phrases import GREETING, REMEDY
from apps.upstreams.demo.request import Request


def prose(request: Request) -> str:
    opening = [GREETING, *_instructions(request), _said(request), _seen(request)]
    return "\n\n".join([" ".join(opening), *_done(request), REMEDY])


def _instructions(request: Request) -> Iterator[str]:
    if given := " ".join(filter(None, texts_of(request.messages, "system", "developer"))):
        yield f"My instructions are: “{_short(given, 120)}”."


def _said(request: Request) -> str:
    return f"You said: “{_short(request.text)}”." if request.text else "You said nothing in words."


def _seen(request: Request) -> str:
    turns = texts_of(request.messages, "user")
    first = f"; the first was “{_short(without_directives(turns[0]))}”" if len(turns) > 1 else ""
    media = Counter(media_in(request.messages))
    shown = " and ".join(_count(media[kind], kind) for kind in MEDIA.values() if media[kind])
    sent = f"I was sent {_count(len(request.messages), 'message')}, {len(turns)} of them yours{first}"
    return f"{sent}, with {shown}." if shown else f"{sent}."


def _done(request: Request) -> Iterator[str]:
    if request.handoff_taken:
        yield f"I came here by the handoff {request.handoff_taken}."
    for name, output in request.results:
        yield f"The tool {name} returned: {output}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()}…"
