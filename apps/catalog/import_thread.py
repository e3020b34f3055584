"""The thread in which modules are imported, one after another, until one does not end."""

import sys
import threading
from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue

Work = Callable[[], None]


class ImportThread:
    """Does one piece of work at a time, each in a context of its own, where no event loop runs.

    A thread cannot be killed. One whose work does not end in time is left behind as a daemon, and ends when its work
    does. Interrupting it with an exception could leave a slow library half imported for everybody; left alone, it
    completes, and the next attempt finds it there.
    """

    def __init__(self) -> None:
        self._given: SimpleQueue[Work | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, work: Work, timeout: float, *, name: str) -> bool:
        """Whether it ended in time; if not, this thread takes no more. `work` must not raise.

        The thread bears the `name` while it works and afterwards, should it be left behind.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._thread.name = name
        self._given.put(work)
        try:
            self._done.get(timeout=timeout)
        except Empty:
            self._given.put(None)
            return False
        return True

    def end(self) -> None:
        """Call when nothing runs."""
        if self._thread is not None:
            self._given.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (work := self._given.get()) is not None:
            trace, profile = sys.gettrace(), sys.getprofile()
            Context().run(work)
            del work  # it holds the module
            # Of the thread: what a debugger or profiler that a module starts would leave to the next one.
            if sys.gettrace() is not trace:
                sys.settrace(trace)
            if sys.getprofile() is not profile:
                sys.setprofile(profile)
            self._done.put(None)
