"""What a worker measures of itself."""

import asyncio
import threading

from apps.core.write_behind import BatchWriter
from apps.observability.gateway_metrics import LoopLag, WorkerCollector
from tests.harness import eventually


def samples(**labels: str) -> dict[str, float]:
    return {
        one.name: one.value
        for metric in WorkerCollector().collect()
        for one in metric.samples
        if labels.items() <= one.labels.items()
    }


async def test_lag_is_how_late_the_timer_was() -> None:
    lag = LoopLag()
    lag.start()
    lag._due -= 20.0
    lag._look()
    lag._due += 100.0  # early, as a clock that is not exact may be
    lag._look()

    assert lag.longest is not None
    assert 19 < lag.longest < 60
    assert lag._latest[-1] == 0
    lag.stop()
    assert lag.longest is None


async def test_lag_looks_again_by_itself_and_forgets() -> None:
    lag = LoopLag()
    lag.start()
    lag._latest = [99.0] * 119
    lag._look()
    assert len(lag._latest) == 120
    for _ in range(119):
        lag._look()
    assert lag.longest is not None
    assert lag.longest < 99
    handle = lag._handle
    assert handle is not None
    assert not handle.cancelled()
    lag.stop()
    await asyncio.sleep(0)
    assert handle.cancelled()


def test_rows_that_wait_and_rows_that_are_lost_are_told_by_writer() -> None:
    gate = threading.Event()

    def write(batch: list[int]) -> None:
        gate.wait(10)
        if 2 in batch:
            raise ValueError("refused")

    writer = BatchWriter("of these tests", write, capacity=2)
    offered = [writer.offer(number) for number in range(1, 4)]
    writer.start()

    assert offered == [True, True, False]
    eventually(lambda: samples(writer="of these tests")["gateway_write_behind_backlog"], 2)
    gate.set()
    eventually(lambda: samples(writer="of these tests")["gateway_write_behind_backlog"], 0)
    assert samples(writer="of these tests", reason="dropped")["gateway_write_behind_lost_total"] == 1
    assert samples(writer="of these tests", reason="lost")["gateway_write_behind_lost_total"] == 1
    assert writer.stop() == 1
    assert samples(writer="of these tests", reason="lost")["gateway_write_behind_lost_total"] == 1
