"""What a run used, by the calls to models that it made."""

from apps.execution.events import Usage
from apps.upstreams.calls import CallLog, ModelCall


def usage_of(log: CallLog) -> Usage:
    calls: list[ModelCall] = log.calls
    return Usage(
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        completion_tokens=sum(call.completion_tokens for call in calls),
        cached_tokens=sum(call.cached_tokens for call in calls),
        reasoning_tokens=sum(call.reasoning_tokens for call in calls),
        model_calls=len(calls),
        estimated=any(call.estimated for call in calls),
    )
