"""Whether a collector takes what it is sent: one line when it stops to, and one when it takes it again."""

import re
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_USER: Final = re.compile(r"//[^/@]*@")  # and password
_LONGEST: Final = 300  # characters
_REMEDY: Final = "See whether the collector answers there. Requests go on; what it does not take is lost, and counted."
_TO_ABORT: Final = 0.4  # seconds


def send_in_time(send: Callable[[], None], abort: Callable[[], None], patience: float) -> None:
    """Returns after `patience` seconds at the latest. An attempt that waits to be made again then is aborted."""
    ends_at = monotonic() + patience
    sending = threading.Thread(target=send, name="send-last", daemon=True)
    sending.start()
    sending.join(patience - _TO_ABORT)
    if sending.is_alive():
        abort()
        sending.join(max(0.0, ends_at - monotonic()))


class Watch:
    """Of one signal."""

    def __init__(self, signal: str, endpoint: str) -> None:
        self._signal = signal
        self._endpoint = _USER.sub("//", endpoint)
        self._is_failing = False
        self._lost = 0

    def sent(self) -> None:
        if self._is_failing:
            log.info("telemetry_sent_again", signal=self._signal, lost=self._lost)
        self._is_failing, self._lost = False, 0

    def failed(self, lost: int, reason: str) -> None:
        """So many spans or metrics were not taken, and are gone."""
        self._lost += lost
        if not self._is_failing:
            log.warning(
                "telemetry_not_sent",
                signal=self._signal,
                endpoint=self._endpoint,
                reason=_USER.sub("//", reason)[:_LONGEST],
                remedy=_REMEDY,
            )
        self._is_failing = True
