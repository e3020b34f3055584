"""A gateway over a thousand folders: what an edit and a list cost, and what a reload does to a stream under way."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually

FOLDERS = 1000
SIMPLE = (
    '"""Agent {number}."""\n\nfrom agents import Agent\n\nagent = Agent(name="A{number}", instructions="{version}")\n'
)

# From the save to the first answer of the new version, as docs/operation.md promises; and what a busy machine may take.
# Both where Python counts to a million in USUAL_COUNT seconds; a slower machine has as much more time.
LIVE_WITHIN, LIVE_ON_A_BUSY_MACHINE = 0.3, 1.5
USUAL_COUNT = 0.02
EDITS = 9
LIST_CPU_MS = 3.0
LISTS = 200
RELOADS = 20
MOST_DELAY_MS = 50.0

# Runs until a file is there, and tells how late the event loop came back to it: the worst of every tenth of a second.
CLOCK = """
import asyncio
import json
import time
from pathlib import Path

from agents import Agent, function_tool


@function_tool
async def delays(path: str) -> str:
    worst, begun = {{}}, time.monotonic()
    Path(path + ".started").touch()
    while not Path(path).exists():
        before = time.perf_counter()
        await asyncio.sleep(0.002)
        late = (time.perf_counter() - before - 0.002) * 1000
        tenth = int((time.monotonic() - begun) * 10)
        worst[tenth] = max(worst.get(tenth, 0), round(late, 1))
    return json.dumps(list(worst.values()))


agent = Agent(name="Clock", instructions="-", tools=[delays])
"""
# Half a second of pure Python at import, some files beside it, and a source text of a thousand lines.
HEAVY = (
    "from agents import Agent\n\nfor number in range(3_000_000):\n    number += 1\n\n{functions}\n"
    'agent = Agent(name="Heavy", instructions="{version}")\n'
)
FUNCTIONS = "\n\n".join(f"def function_{number}(a, b=1):\n    return [a, b, {number}]" for number in range(250))


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("thousand")
    for number in range(FOLDERS):
        write_source(folder / "agents" / f"Agent{number:04}", SIMPLE.format(number=number, version=0))
    write_source(folder / "agents" / "Clock", CLOCK.format())
    write_source(folder / "agents" / "Heavy", heavy(0))
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        wait_until_quiet(server)
        yield server


def heavy(version: int) -> str:
    return HEAVY.format(functions=FUNCTIONS, version=version)


def cpu_ms(gateway: GatewayServer) -> float:
    fields = Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10.0


def wait_until_quiet(gateway: GatewayServer) -> None:
    """What begins with a process, such as keeping every version for the admin, is done."""

    def busy_ms() -> float:
        before = cpu_ms(gateway)
        time.sleep(1)
        return cpu_ms(gateway) - before

    eventually(lambda: busy_ms() < 100, True, within=60)


def how_slow_it_is() -> float:
    """Beside the machine that the promises were measured on; 1 for one that is faster."""

    def count() -> float:
        began = time.perf_counter()
        for _ in range(1_000_000):
            pass
        return time.perf_counter() - began

    return max(1.0, min(count() for _ in range(5)) / USUAL_COUNT)


def version_of(gateway: GatewayServer, agent: str) -> Any:
    return gateway.with_key("GET", f"/v1/models/default/{agent}").json()["info"]["meta"]["version"]


def seconds_until_live(gateway: GatewayServer, version: int) -> float:
    before = version_of(gateway, "agent0500")
    write_source(gateway.agents / "Agent0500", SIMPLE.format(number=500, version=version))
    saved = time.perf_counter()
    eventually(lambda: version_of(gateway, "agent0500") != before, True, within=10)
    return time.perf_counter() - saved


def test_edit_is_live_within_the_promised_time(thousand: GatewayServer) -> None:
    seconds = [seconds_until_live(thousand, number + 1) for number in range(EDITS)]

    slowness = how_slow_it_is()
    assert min(seconds) < LIVE_WITHIN * slowness
    assert median(seconds) < LIVE_ON_A_BUSY_MACHINE * slowness
    assert thousand.log(event="agents_refreshed")[-1]["loaded"] == ["default/agent0500"]


def test_list_of_a_thousand_costs_little(thousand: GatewayServer) -> None:
    address = urlsplit(thousand.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    before = cpu_ms(thousand)
    for _ in range(LISTS):
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {thousand.key}"})
        listed = connection.getresponse().read()
    spent = cpu_ms(thousand) - before
    connection.close()

    assert len(json.loads(listed)["data"]) == FOLDERS + 2
    assert spent / LISTS < LIST_CPU_MS


def delays_while(gateway: GatewayServer, flag: Path, work: Any) -> list[float]:
    """By how many milliseconds a run under way was late, the worst of every tenth of a second."""
    told: list[str] = []

    def ask() -> None:
        asked = f"[[tool=delays]] [[args={json.dumps({'path': str(flag)})}]]"
        messages: Any = [{"role": "user", "content": asked}]
        answer = gateway.openai(timeout=120).chat.completions.create(model="default/clock", messages=messages)
        told.append(answer.choices[0].message.content or "")

    asking = Thread(target=ask)
    asking.start()
    eventually(flag.with_name(f"{flag.name}.started").exists, True, within=20)
    work()
    flag.touch()
    asking.join(60)
    return json.loads(told[0].partition("delays returned: ")[2].partition("\n")[0])  # type: ignore[no-any-return]


def test_reload_with_a_heavy_import_delays_no_run_under_way(thousand: GatewayServer, tmp_path: Path) -> None:
    """Judged by the median of the worst delays, less what they are while nothing is loaded: others use the machine."""

    def reload() -> None:
        for number in range(RELOADS):
            before = version_of(thousand, "heavy")
            write_source(thousand.agents / "Heavy", heavy(number + 1))
            eventually(lambda before=before: version_of(thousand, "heavy") != before, True, within=20)

    at_rest = delays_while(thousand, tmp_path / "rest", lambda: time.sleep(3))
    reloading = delays_while(thousand, tmp_path / "reload", reload)

    assert len(reloading) > RELOADS
    assert median(reloading) - median(at_rest) < MOST_DELAY_MS
    worst = sorted(reloading)[-RELOADS:]
    assert median(worst) - max(at_rest) < MOST_DELAY_MS
