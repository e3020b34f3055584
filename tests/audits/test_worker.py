"""Real worker processes with each of the brokers."""

import json
import os
import re
import shutil
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Queue

from tests.harness import RedisServer, eventually
from tests.harness.celery_worker import CeleryWorker, sql_of
from tests.harness.gateway import gateway_environment, run_manage
from tests.harness.process_table import children, is_alive

RABBITMQ = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
PATIENCE = 40.0  # seconds: a task goes through beat, broker and a process of its own

# Every second instead of each night.
EVERY_SECOND = """
UPDATE django_celery_beat_intervalschedule SET period = 'seconds' WHERE period = 'minutes';
UPDATE django_celery_beat_periodictask SET crontab_id = NULL,
    interval_id = (SELECT id FROM django_celery_beat_intervalschedule WHERE period = 'seconds')
    WHERE task = 'gateway.audit'
"""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrated") / "data"
    run_manage(gateway_environment(folder), "migrate", "-v0")
    for statement in EVERY_SECOND.split(";"):
        sql_of(folder, statement)
    return folder


@pytest.fixture(params=["folder", "redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """Its URL; skips where there is none."""
    queue = request.getfixturevalue("queue")
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        yield server.url
    elif request.param == "rabbitmq":
        try:
            with Connection(RABBITMQ, connect_timeout=3) as connection:
                connection.ensure_connection(max_retries=0)
        except OSError as error:
            pytest.skip(f"no RabbitMQ to test with at {RABBITMQ}: {error}")
        yield RABBITMQ
        with Connection(RABBITMQ) as connection:
            Queue(queue, channel=connection.default_channel).delete()
    else:
        yield "folder://"


@pytest.fixture
def queue() -> str:
    return f"tests_{uuid.uuid4().hex[:12]}"


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    return sql_of(folder, sql)


def test_two_workers_with_beats_do_each_work_once_and_stop_cleanly(
    broker: str, queue: str, migrated: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(migrated, folder)
    settings = {"CELERY_BROKER_URL": broker, "GATEWAY_QUEUE": queue}
    with ExitStack() as stack:
        count = 2 if broker == "folder://" else 1
        workers = [stack.enter_context(CeleryWorker(folder, "--concurrency", "1", **settings)) for _ in range(count)]
        eventually(lambda: len(rows(folder, "SELECT * FROM audits_workerseen WHERE has_beat")), count, within=PATIENCE)

        audits = "SELECT by FROM audits_auditrun WHERE outcome != 'running' ORDER BY by"
        eventually(lambda: rows(folder, audits), [("schedule",)], within=PATIENCE)
        _send("gateway.audit_now", broker, queue, folder, args=["ann"])  # what somebody asks for
        eventually(lambda: rows(folder, audits), [("ann",), ("schedule",)], within=PATIENCE)

        # The beats fire every second, and what they ask for has been done.
        eventually(lambda: _left_to_another(workers) >= 2, True, within=PATIENCE)
        assert rows(folder, audits) == [("ann",), ("schedule",)]

        told = [line for line in _lines(workers) if line["event"] == "audit_started"]
        assert [
            (line["by"], line["task"], bool(line["task_id"])) for line in sorted(told, key=lambda one: one["by"])
        ] == [
            ("ann", "gateway.audit_now", True),
            ("schedule", "gateway.audit", True),
        ]
        assert [worker.stop() for worker in workers] == [0] * count
    assert rows(folder, "SELECT * FROM audits_workerseen") == []
    assert workers[0].output[-1] == "Worker stopped."
    assert not [line for line in workers[0].errors if "Traceback" in line or '"level":"error"' in line.replace(" ", "")]


def _left_to_another(workers: list[CeleryWorker]) -> int:
    lines = _lines(workers)
    return sum(1 for line in lines if line["event"] == "work_left_to_another" and line["work"] == "audit")


def _lines(workers: list[CeleryWorker]) -> list[dict[str, Any]]:
    return [json.loads(line) for worker in workers for line in list(worker.errors) if line.startswith("{")]


def _send(task: str, broker: str, queue: str, folder: Path, **options: Any) -> None:
    """As another program would."""
    client = Celery(broker=broker, set_as_current=False)
    if broker == "folder://":
        of = folder / "celery"
        client.conf.broker_transport_options = {
            "data_folder_in": str(of / "queue"),
            "data_folder_out": str(of / "queue"),
            "processed_folder": str(of / "taken"),
            "control_folder": str(of / "control"),
        }
    client.send_task(task, queue=queue, **options)
    client.close()


# --- a task that does not come to its end ----------------------------------------------------------------------------


class Hung:
    """A worker whose task asks a server that takes connections and says nothing, until `end`."""

    def __init__(self, stack: ExitStack, folder: Path, queue: str) -> None:
        self._server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._queue, self._folder = queue, folder
        file = folder / "hung.yaml"
        file.write_text(f"upstreams: {{hung: {{base_url: 'http://127.0.0.1:{self._server.getsockname()[1]}/v1'}}}}")
        self._settings = {"GATEWAY_QUEUE": queue, "GATEWAY_UPSTREAM_REFRESH": "300"}
        run_manage(gateway_environment(folder, **self._settings), "import_config", str(file))
        self._stack = stack
        self.worker = self.start_worker()

    def start_worker(self) -> CeleryWorker:
        worker = CeleryWorker(self._folder, "--concurrency", "1", "--no-beat", **self._settings)
        return self._stack.enter_context(worker)

    def ask(self, **options: Any) -> int:
        """Returns the process that does it, once it has begun."""
        _send("gateway.models", "folder://", self._queue, self._folder, **options)
        eventually(lambda: len(self.claim("ended_at IS NULL")), 1, within=PATIENCE)
        ((holder,),) = self.claim("ended_at IS NULL", "holder")
        return int(holder.split(":")[1])

    def claim(self, condition: str, columns: str = "is_failed, said") -> list[tuple[Any, ...]]:
        return rows(self._folder, f"SELECT {columns} FROM audits_claim WHERE name = 'work models' AND {condition}")

    def lapse(self) -> None:
        """The claim, as it does a minute after its holder's end, and ten minutes after a beginning."""
        rows(self._folder, "UPDATE audits_claim SET until = '2026-01-01', taken_at = '2026-01-01'")

    def end(self) -> None:
        """Whoever asks the server is refused at once."""
        self._server.close()
        self.lapse()

    def ask_again(self) -> None:
        _send("gateway.models", "folder://", self._queue, self._folder)
        eventually(
            lambda: len(self.claim("ended_at IS NOT NULL AND said LIKE '1 upstream asked.%'")), 1, within=PATIENCE
        )


@pytest.fixture
def hung(migrated: Path, tmp_path: Path, queue: str) -> Iterator[Hung]:
    folder = tmp_path / "data"
    shutil.copytree(migrated, folder)
    with ExitStack() as stack:
        yield Hung(stack, folder, queue)


def test_work_of_a_worker_that_was_killed_in_the_middle_of_it_is_done_by_the_next(hung: Hung) -> None:
    doing = hung.ask()
    assert doing != hung.worker.pid
    for one in (hung.worker.pid, doing):  # as when the machine is switched off
        os.kill(one, signal.SIGKILL)
    hung.worker.stop()
    assert hung.claim("ended_at IS NULL") == [(False, "")]
    hung.end()

    hung.start_worker()
    hung.ask_again()


def test_work_that_takes_too_long_is_told_to_end_or_else_ended_and_the_worker_goes_on(hung: Hung) -> None:
    told = hung.ask(soft_time_limit=1, time_limit=60)
    said = (
        "It took longer than 1 s and was stopped. Look under Upstreams which of them hangs, and mend or disable it; "
        "`manage.py scheduled models` has no limit."
    )
    eventually(lambda: hung.claim("ended_at IS NOT NULL"), [(True, said)], within=PATIENCE)
    eventually(lambda: _too_long(hung.worker), [("models", 1)])
    assert is_alive(told)

    hung.lapse()
    before = children(hung.worker.pid, "")
    ended = hung.ask(time_limit=1)  # and the work's own, of five minutes, to be told
    eventually(lambda: is_alive(ended), False, within=PATIENCE)
    # Until Celery has seen that, it gives tasks to the process that is gone; the next minute's come again.
    eventually(lambda: bool(children(hung.worker.pid, "") - before), True, within=PATIENCE)

    hung.end()
    hung.ask_again()
    assert hung.worker.stop() == 0


def _too_long(worker: CeleryWorker) -> list[tuple[str, float]]:
    return [(line["work"], line["limit"]) for line in _lines([worker]) if line["event"] == "work_took_too_long"]


def test_broker_that_is_away_is_one_sentence(migrated: Path) -> None:
    environment = gateway_environment(migrated, CELERY_BROKER_URL="redis://:hidden@127.0.0.1:9/0")
    done = run_manage(environment, "worker", check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("CommandError: The broker at redis://127.0.0.1:9/0 does not answer (")
    )
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "status"), [("audit", 2), ("scheduled purge", 1), ("worker", 1)])
def test_database_without_tables_is_one_sentence(command: str, status: int, tmp_path: Path) -> None:
    done = run_manage(gateway_environment(tmp_path), *command.split(), check=False)

    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(
        r"CommandError: The database lacks \d+ migrations\. Run `manage\.py bootstrap` first\.\n", done.stderr
    )
