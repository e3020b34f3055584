"""What a run used, by the calls to models that it made."""

from apps.execution.events import Usage
from apps.upstreams.calls import CallLog


def usage_of(log: CallLog) -> Usage:
    prompt = completion = cached = reasoning = 0
    estimated = False
    for call in log.calls:
        prompt += call.prompt_tokens
        completion += call.completion_tokens
        cached += call.cached_tokens
        reasoning += call.reasoning_tokens
        estimated = estimated or call.estimated
    return Usage(prompt, completion, cached, reasoning, len(log.calls), estimated)
