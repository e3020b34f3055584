"""Usage, counted by the rule in the package's docstring."""

import json
import math
import re
from typing import Any

from apps.upstreams.demo.fields import Body
from apps.upstreams.demo.messages import calls_in, media_in, text_of


def pieces(text: str) -> list[str]:
    """A text word by word, each with the blanks behind it: joined, they are the text."""
    return re.findall(r"\s+\S*\s*|\S+\s*", text)


def usage_of(body: Body, *, completion_tokens: int, reasoning_tokens: int = 0) -> dict[str, Any]:
    """The usage object of an answer of so many tokens to this request, which has been checked."""
    prompt_tokens = _prompt_tokens(body)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }


def _prompt_tokens(body: Body) -> int:
    messages = body["messages"]
    texts = [text_of(message) for message in messages]
    for call in calls_in(messages):
        texts += [call["function"]["name"], call["function"]["arguments"]]
    texts += [json.dumps(tool, default=str) for tool in body.get("tools") or ()]
    return 85 * len(media_in(messages)) + 4 * len(messages) + sum(math.ceil(len(text) / 4) for text in texts)
