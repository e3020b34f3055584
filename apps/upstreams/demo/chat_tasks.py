"""What chat UIs ask in the background of a chat: a title, tags, follow-ups, search queries.

The prompts are Open WebUI's: they quote the chat between tags, and end with the JSON that they want.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from apps.upstreams.demo.directives import without_directives
from apps.upstreams.demo.phrases import GREETING

_FOLLOW_UPS = ["What can the demo upstream do?", "How do I connect a real model?", "Which agents are here?"]
_ANSWERS: Mapping[str, Callable[[str], Any]] = {  # by the key of the JSON, from the first words of the chat
    "title": lambda said: f"Demo: {said}",
    "tags": lambda _: ["Demo", "General"],
    "follow_ups": lambda _: _FOLLOW_UPS,
    "queries": lambda said: [said],
    "text": lambda _: "",
}


def is_task(text: str) -> bool:
    return text.startswith(("### Task:", "#### Task:"))


def task_answer(text: str) -> str:
    """The JSON that the task asks for, prose when it is none that is known."""
    name = _key_asked_for(text)
    if name is None:
        return f"{GREETING} It does no such task."
    return json.dumps({name: _ANSWERS[name](_first_words_of_chat(text))}, ensure_ascii=False)


def _key_asked_for(text: str) -> str | None:
    """The known key that comes first outside the quoted chat."""
    asked = re.sub(r"<chat_history>.*?</chat_history>", "", text, flags=re.DOTALL)
    key = re.search(rf'"({"|".join(_ANSWERS)})"', asked)
    return key[1] if key else None


def _first_words_of_chat(text: str) -> str:
    said = re.search(r"<chat_history>\s*(?:USER:\s*)?(.*?)\s*(?:ASSISTANT:|</chat_history>)", text, re.DOTALL)
    words = without_directives(said[1]).split() if said else []
    return " ".join(words[:6]) or "a chat"
