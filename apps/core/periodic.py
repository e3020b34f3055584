"""Something that a server process does every so often, beside its requests, in a thread of its own."""

import threading
from collections.abc import Callable

import structlog
from django.db import DatabaseError, connection

log = structlog.get_logger(__name__)


class Periodic:
    """Calls `do` every so many seconds from `start` to `stop`. What it raises is logged,
    once until it works again, and the next call comes all the same."""

    def __init__(self, name: str, do: Callable[[], object], *, seconds: float) -> None:
        self._name = name
        self._do = do
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, *, patience: float = 5.0) -> None:
        """Returns when the call under way has ended, or after `patience` seconds."""
        self._stopping.set()
        if self._thread:
            self._thread.join(patience)

    def _run(self) -> None:
        is_failing = False
        while not self._stopping.wait(self._seconds):
            try:
                self._do()
                is_failing = False
            except Exception as error:  # whatever it is, the next call must still come
                if not is_failing:
                    log.error(
                        "periodic_failed",
                        what=self._name,
                        error=str(error),
                        exc_info=not isinstance(error, DatabaseError),
                    )
                is_failing = True
                connection.close()
        connection.close()
