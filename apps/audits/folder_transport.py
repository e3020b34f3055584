"""kombu's transport over files, with writes that are seen whole or not at all.

As it comes, a message can be read while it is being written, and the table of an exchange while it is truncated: both
end the worker that reads. Here a file gets its name when it is complete.
"""

# mypy: disable-error-code="override, no-untyped-call"
# kombu's own annotations are few, and its transports do not follow them.

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from time import time_ns
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for folder in (self.data_folder_in, self.processed_folder, self.control_folder):
            Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder = Path(self.data_folder_out)
        _write_whole(folder / f"{time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg", dumps(payload))

    def _get(self, queue: str) -> Any:
        """Of several readers, the one that manages to rename a message has it. Raises Empty."""
        taken = Path(self.processed_folder)
        for name in sorted(os.listdir(self.data_folder_in)):  # noqa: PTH208  # names, twice a second
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            try:
                mine = Path(self.data_folder_in, name).rename(taken / name)
            except FileNotFoundError:
                continue
            content = mine.read_text()
            mine.unlink()
            return loads(content)
        raise Empty

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        bound = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._alone():
            table = self.get_table(exchange)
            if bound not in table:
                _write_whole(self._exchange_file(exchange), dumps([bound, *table]))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.control_folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Transport(filesystem.Transport):
    Channel = Channel


def _write_whole(path: Path, text: str) -> None:
    """Raises ChannelError."""
    beside = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        beside.write_text(text)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ChannelError(f"The message cannot be written to {path.parent}: {error}") from error
