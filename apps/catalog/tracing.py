"""The SDK's trace provider in this process: nothing leaves the site, whatever a drop-in does.

The SDK's default posts every trace to api.openai.com as soon as an API key exists.
"""

import threading

from agents.tracing import TracingProcessor
from agents.tracing import setup as _sdk
from agents.tracing.provider import DefaultTraceProvider

_lock = threading.Lock()


class LocalTraceProvider(DefaultTraceProvider):
    """Takes processors from the gateway (`add`) and from nobody else.

    Modules call set_tracing_disabled, set_trace_processors or add_trace_processor for their own purposes; in a process
    that they share, none of them may decide that.
    """

    def __init__(self) -> None:
        super().__init__()
        super().set_disabled(False)  # goes before OPENAI_AGENTS_DISABLE_TRACING, which a module may set
        self._added: list[TracingProcessor] = []

    def add(self, processor: TracingProcessor) -> None:
        """Idempotent."""
        if processor not in self._added:
            self._added.append(processor)
            super().register_processor(processor)

    def register_processor(self, processor: TracingProcessor) -> None:
        """Ignored."""

    def set_processors(self, processors: list[TracingProcessor]) -> None:
        """Ignored."""

    def set_disabled(self, disabled: bool) -> None:
        """Ignored."""


def install() -> LocalTraceProvider:
    """Make ours the process's provider, once; later calls return the same one."""
    with _lock:
        if isinstance(_sdk.GLOBAL_TRACE_PROVIDER, LocalTraceProvider):
            return _sdk.GLOBAL_TRACE_PROVIDER
        provider = LocalTraceProvider()
        _sdk.set_trace_provider(provider)
        return provider
