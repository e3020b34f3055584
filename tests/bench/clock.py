"""What a process has cost so far, seen from outside by what the operating system offers."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads included, those that have ended too."""
    if sys.platform == "linux":
        # The clock that clock_getcpuclockid(3) names; it counts nanoseconds, /proc/PID/stat ticks of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    return sum(float(part) * 60**power for power, part in enumerate(reversed(_ps(pid, "time").split(":"))))


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM, in MB of 1024 * 1024 bytes."""
    if sys.platform == "linux":
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) / 1024
    return int(_ps(pid, "rss")) / 1024


def _ps(pid: int, column: str) -> str:
    return subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=True
    ).stdout.strip()


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


def batch(latencies: list[float], cpu: float, wall: float, firsts: list[float] | None = None) -> dict[str, float]:
    """What a helper process reports of a batch: CPU and latencies in ms for each of its `count` requests."""
    latencies, firsts = sorted(latencies), sorted(firsts or [0.0])
    count = len(latencies)
    return {
        "count": count,
        "cpu_ms": cpu * 1000 / count,
        "wall_ms": wall * 1000 / count,
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p95_ms": percentile(latencies, 0.95) * 1000,
        "first_p50_ms": percentile(firsts, 0.5) * 1000,
    }
