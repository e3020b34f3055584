"""`python -m tests.bench.million_runs`: the console's pages over a million runs. docs/performance.md explains it.

Builds a database of its own (SQLite in a temporary folder, or a scratch database of a PostgreSQL server), fills it with
bulk SQL in about a minute, and asks each of PAGES as a superuser, in this process.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

RUNS = 1_000_000
DAYS = 90
AGENTS, KEYS, USERS = 40, 200, 5_000
TARGET_MS = 300

# What is measured: a name and a path below /admin/. {id}, {request_id} and {agent} are filled in.
PAGES = [
    ("dashboard", ""),
    ("dashboard, renewed", "dashboard/"),
    ("dashboard, an agent", "?agent=bench/agent7"),
    ("dashboard, 7 days", "?range=7d"),
    ("dashboard, 30 days", "?range=30d"),
    ("dashboard, 30 days of an agent", "?range=30d&agent=bench/agent7"),
    ("runs", "execution/run/"),
    ("runs, page 200", "execution/run/?p=200"),
    ("runs, last hour", "execution/run/?within=hour"),
    ("runs, 24 hours", "execution/run/?within=day"),
    ("runs, 7 days", "execution/run/?within=week"),
    ("runs, failed", "execution/run/?outcome__exact=failed"),
    ("runs, completed", "execution/run/?outcome__exact=completed"),
    ("runs, waiting (none)", "execution/run/?outcome__exact=waiting"),
    ("runs, streamed", "execution/run/?streamed__exact=1"),
    ("runs, whole", "execution/run/?streamed__exact=0"),
    ("runs, an agent", "execution/run/?agent=bench/agent7"),
    ("runs, an agent that is gone", "execution/run/?agent=bench/gone"),
    ("runs, a key", "execution/run/?key=7"),
    ("runs, failed of an agent, 7 days", "execution/run/?agent=bench/agent7&outcome__exact=failed&within=week"),
    ("search, run id", "execution/run/?q={id}"),
    ("search, request id", "execution/run/?q={request_id}"),
    ("search, agent", "execution/run/?q=bench/agent7"),
    ("search, part of many agents", "execution/run/?q=agent"),
    ("search, key", "execution/run/?q=Key 17"),
    ("search, user", "execution/run/?q=user17@example.org"),
    ("search, part of a user", "execution/run/?q=user17@"),
    ("search, text of an error", "execution/run/?q=did not answer"),
    ("search, nothing", "execution/run/?q=there is no such thing"),
    ("search, text of an error, 24 hours", "execution/run/?q=did not answer&within=day"),
    ("a run without steps", "execution/run/{id}/change/"),
    ("an agent", "catalog/dropin/{agent}/change/"),
]


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="million-runs-") as folder, _database(arguments.postgres, folder) as url:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "gateway_site.settings",
            "GATEWAY_DATA_DIR": folder,
            "GATEWAY_LOG_LEVEL": "ERROR",
            "DATABASE_URL": url,
        }
        import django

        django.setup()
        _say(f"filling {arguments.runs:,} runs into {url.partition(':')[0]} ...")
        known = fill(arguments.runs)
        slow = measure(known, arguments.rounds, arguments.only)
        from django.db import connection

        connection.close()
    return 1 if slow and arguments.check else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.million_runs", description=__doc__.partition("\n")[0])
    parser.add_argument("--postgres", metavar="URL", help="of a server, such as postgresql://postgres@127.0.0.1:5432")
    parser.add_argument("--runs", type=int, default=RUNS, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="requests for each page; default %(default)s")
    parser.add_argument("--only", default="", metavar="TEXT", help="pages whose name contains it")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 when a median is over {TARGET_MS} ms")
    return parser.parse_args()


@contextmanager
def _database(server: str | None, folder: str) -> Iterator[str]:
    if server is None:
        yield f"sqlite:///{Path(folder) / 'runs.sqlite3'}"
        return
    name = f"million_runs_{uuid.uuid4().hex[:8]}"
    server = server.rstrip("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server}/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


# --- filling ---------------------------------------------------------------------------------------------------------


def fill(runs: int) -> dict[str, str]:
    """What the paths of PAGES name."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection, transaction

    from apps.execution.models import Run
    from tests.factories import ApiKeyFactory, DropInFactory

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("bench", "", "bench")
    with transaction.atomic():
        for number in range(AGENTS):
            row = DropInFactory(agent_id=f"bench/agent{number}", graph=[])
        for number in range(KEYS):
            ApiKeyFactory(name=f"Key {number}")
        with connection.cursor() as cursor:
            cursor.execute(_runs(connection.vendor, runs))
            cursor.execute(_buckets(connection.vendor))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # as autovacuum does within a minute
    middle = Run.objects.order_by("-started_at")[runs // 2]
    return {"id": middle.pk, "request_id": middle.request_id, "agent": str(row.pk)}


def _runs(vendor: str, runs: int) -> str:
    """Evenly over DAYS. Of 1,000 runs 940 completed, 30 failed, 20 were cancelled, 10 refused; none waits."""
    scattered = "(i * 2654435761) % 4294967296"
    failed = "i % 1000 BETWEEN 940 AND 969"
    values = {
        "id": f"'chatcmpl-' || {_hex(vendor, scattered)}",
        "request_id": f"'req_' || {_hex(vendor, f'({scattered}) + 4294967296')}",
        "trace_id": "''",
        "agent_id": f"'bench/agent' || ((i * i + i / 7) % {AGENTS})",
        "agent_digest": "''",
        "key_id": f"1 + (i / 3) % {KEYS}",
        "key_name": f"'Key ' || ((i / 3) % {KEYS})",
        "user_id": f"'u' || ((i / 2) % {USERS})",
        "user_name": f"'user' || ((i / 2) % {USERS}) || '@example.org'",
        "upstream": "'openai'",
        "model": "'gpt-4.1'",
        "streamed": "i % 10 < 7",
        "outcome": "CASE WHEN i % 1000 < 940 THEN 'completed' WHEN i % 1000 < 970 THEN 'failed' "
        "WHEN i % 1000 < 990 THEN 'cancelled' ELSE 'refused' END",
        "finish_reason": "'stop'",
        "error_code": f"CASE WHEN {failed} THEN 'upstream_timeout' ELSE '' END",
        "error": f"CASE WHEN {failed} THEN 'The upstream did not answer within ' || (i % 60) || ' s.' ELSE '' END",
        "started_at": _moment(vendor, f"{time.time():.0f} - i * {DAYS * 86_400 / runs}"),
        "first_event_ms": "300.0 + i % 700",
        "duration_ms": "500.0 + (i * 7919) % 20000",
        "model_calls": "1 + i % 4",
        "is_plain": "i % 4 = 5",
        "prompt_tokens": "i % 4000",
        "completion_tokens": "i % 900",
        "tokens_estimated": "i % 50 = 0",
        "cost_usd": "0.001 * (i % 9)",
    }
    return (
        f"INSERT INTO execution_run ({', '.join(values)}) {_series(vendor, runs)} "
        f"SELECT {', '.join(values.values())} FROM s"
    )


def _buckets(vendor: str) -> str:
    """Each agent ran in every ten minutes: as many rows as there can be."""
    now = time.time() // 600 * 600
    slots = DAYS * 144
    counts = {
        "began_at": _moment(vendor, f"{now:.0f} - (i / {AGENTS}) * 600"),
        "agent_id": f"'bench/agent' || (i % {AGENTS})",
        "runs": "2", "failed": "CASE WHEN i % 17 = 0 THEN 1 ELSE 0 END", "refused": "0", "cancelled": "0",
        "prompt_tokens": "4000", "completion_tokens": "900", "cost_usd": "0.01", "duration_ms": "20000.0",
        "first_event_ms": "1300.0", "with_first_event": "2", "took_100": "0", "took_250": "0", "took_500": "0",
        "took_1000": "0", "took_2500": "1", "took_5000": "0", "took_10000": "0", "took_30000": "1", "took_60000": "0",
        "took_longer": "0",
    }  # fmt: skip
    return (
        f"INSERT INTO execution_runbucket ({', '.join(counts)}) {_series(vendor, slots * AGENTS)} "
        f"SELECT {', '.join(counts.values())} FROM s"
    )


def _series(vendor: str, length: int) -> str:
    if vendor == "postgresql":
        return f"WITH s(i) AS (SELECT generate_series(0::bigint, {length - 1}))"
    return f"WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < {length - 1})"


def _hex(vendor: str, number: str) -> str:
    return f"lpad(to_hex({number}), 32, '0')" if vendor == "postgresql" else f"printf('%032x', {number})"


def _moment(vendor: str, epoch: str) -> str:
    """As Django stores it: SQLite has texts, with microseconds unless they are 0."""
    if vendor == "postgresql":
        return f"to_timestamp({epoch})"
    return f"strftime('%Y-%m-%d %H:%M:%f', {epoch}, 'unixepoch')"


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(known: dict[str, str], rounds: int, only: str) -> list[str]:
    """The names of the pages whose median is over the target."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import connection, reset_queries
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    settings.ALLOWED_HOSTS = ["*"]
    client = Client()
    client.force_login(User.objects.get(username="bench"))
    client.get("/admin/")  # templates and imports are no one's fault
    slow = []
    print(f"{'page':<38}{'median':>8}{'lowest':>8}{'highest':>8}{'CPU':>6}{'database':>10}{'queries':>9}  ms")
    for name, path in PAGES:
        if only not in name:
            continue
        url = f"/admin/{path.format(**known)}"
        took, cpu = [], []
        for _ in range(rounds):
            began, began_cpu = time.perf_counter(), time.process_time()
            answer = client.get(url)
            took.append((time.perf_counter() - began) * 1000)
            cpu.append((time.process_time() - began_cpu) * 1000)
            if answer.status_code != 200:
                raise SystemExit(f"{url} answered {answer.status_code}")
        reset_queries()
        with CaptureQueriesContext(connection) as queries:
            client.get(url)
        in_database = 1000 * sum(float(query["time"]) for query in queries)
        median = statistics.median(took)
        figures = f"{median:>8.0f}{min(took):>8.0f}{max(took):>8.0f}{min(cpu):>6.0f}{in_database:>10.0f}"
        print(f"{name:<38}{figures}{len(queries):>9}{'' if median <= TARGET_MS else f'  over {TARGET_MS}'}", flush=True)
        if median > TARGET_MS:
            slow.append(name)
    return slow


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
