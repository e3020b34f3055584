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

from apps.upstreams.demo.completions import MODEL, chunks, completion, models
from apps.upstreams.demo.errors import DemoRequestError
from apps.upstreams.demo.hints import Hints
from apps.upstreams.demo.phrases import GREETING, REFUSAL
from apps.upstreams.demo.request import delay_of, plain_words
from apps.upstreams.demo.schema_values import fitting
from apps.upstreams.demo.tokens import usage_of

__all__ = [
    "GREETING",
    "MODEL",
    "REFUSAL",
    "DemoRequestError",
    "Hints",
    "chunks",
    "completion",
    "delay_of",
    "fitting",
    "models",
    "plain_words",
    "usage_of",
]
