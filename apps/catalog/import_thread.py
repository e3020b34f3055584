"""The thread in which modules are imported, one after another, until one does not end."""

import sys
import threading
from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue

Work = Callable[[], None]


class ImportThread:
    """Does one piece of work at a time, each in a context of its own, where no event loop runs.

    A thread cannot be killed. One whose work does not end in time is left behind as a daemon, ends when its work does,
    and another one takes its place. Interrupting it with an exception could leave a slow library half imported for
    everybody; left alone, it completes, and the next attempt finds it there.
    """

    def __init__(self) -> None:
        self._worker: _Worker | None = None

    def run(self, work: Work, timeout: float, *, name: str) -> bool:
        """Whether it ended in time. `work` must not raise. The thread is called `name`, also when it is left behind."""
        worker, self._worker = self._worker or _Worker(), None
        worker.name = name
        worker.given.put(work)
        try:
            worker.done.get(timeout=timeout)
        except BaseException as error:  # Ctrl-C, too: nobody waits for the module then
            worker.given.put(None)
            if isinstance(error, Empty):
                return False
            raise
        self._worker = worker
        return True

    def end(self) -> None:
        if self._worker:
            self._worker.given.put(None)
            self._worker.join()


class _Worker(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.given: SimpleQueue[Work | None] = SimpleQueue()
        self.done: SimpleQueue[None] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while (work := self.given.get()) is not None:
            trace, profile = sys.gettrace(), sys.getprofile()
            Context().run(work)
            del work  # it holds the module
            # Of the thread: what a debugger or profiler that a module starts would leave to the next one.
            if sys.gettrace() is not trace:
                sys.settrace(trace)
            if sys.getprofile() is not profile:
                sys.setprofile(profile)
            self.done.put(None)
