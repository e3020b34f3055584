"""From the rounds to a small table."""

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.measure import CROWD, FEW, MANY, PACE, WORDS, Effort, Rounds


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: the median of the rounds and how far they lie apart. The median has to be below `target`."""

    what: str
    unit: str
    values: Sequence[float]
    target: float | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "ok" if median(self.values) <= self.target else "missed"

    def cells(self) -> tuple[str, str, str, str]:
        told = f"{median(self.values):.3g}{self.unit}"
        if len(self.values) > 1:
            told += f" ({min(self.values):.3g} - {max(self.values):.3g})"
        return self.what, told, "" if self.target is None else f"<= {self.target:g}{self.unit}", self.verdict


def rows(measured: Mapping[str, Rounds]) -> list[Row]:
    return [row for name, rounds in measured.items() for row in _TABLE[name](rounds)]


def _of(rounds: Rounds, side: str, what: str = "cpu_ms") -> list[float]:
    return [each[side][what] for each in rounds]


def _ratio(rounds: Rounds, side: str, to: str, what: str = "cpu_ms") -> list[float]:
    return [each[side][what] / each[to][what] for each in rounds]


def _models(rounds: Rounds) -> Iterator[Row]:
    yield Row("/v1/models with a key / empty async view", "x", _ratio(rounds, "gateway", "floor"), 3.0)


def _stream(rounds: Rounds) -> Iterator[Row]:
    what = f"streamed run of {WORDS} chunks"
    yield Row(f"{what}: gateway / bare Runner, same client", "x", _ratio(rounds, "gateway", "fast"), 1.25)
    yield Row(f"{what}: gateway / bare Runner, stock client", "x", _ratio(rounds, "gateway", "stock"), 0.5)
    yield Row(f"{what}: gateway / bare Runner that joins text as well", "x", _ratio(rounds, "gateway", "joined"))


def _chunks(rounds: Rounds) -> Iterator[Row]:
    yield Row("a chunk more, gateway: CPU", " us", _per_chunk(rounds, "gateway"), 40.0)
    yield Row("a chunk more, bare Runner, same client: CPU", " us", _per_chunk(rounds, "fast"))


def _per_chunk(rounds: Rounds, side: str, name: str = "") -> list[float]:
    """The slope between short and long answers, in microseconds."""
    rise = [each[f"{side}-{MANY}{name}"]["cpu_ms"] - each[f"{side}-{FEW}{name}"]["cpu_ms"] for each in rounds]
    return [milliseconds * 1000 / (MANY - FEW) for milliseconds in rise]


def _paced(rounds: Rounds) -> Iterator[Row]:
    what = f"streamed run of {WORDS} chunks, {PACE * 1000:g} ms apart"
    yield Row(f"{what}: gateway / bare Runner, same client", "x", _ratio(rounds, "gateway", "fast"))


def _whole(rounds: Rounds) -> Iterator[Row]:
    what = f"whole answer of {WORDS} words"
    yield Row(f"{what}: gateway / bare Runner, same client", "x", _ratio(rounds, "gateway", "fast"))
    yield Row(f"{what}: gateway / bare Runner, stock client", "x", _ratio(rounds, "gateway", "stock"))


def _pass_through(rounds: Rounds) -> Iterator[Row]:
    yield from _beside("whole answer of a model as it is", rounds)


def _declared(rounds: Rounds) -> Iterator[Row]:
    yield from _beside("whole answer of a declared agent", rounds)


def _beside(what: str, rounds: Rounds) -> Iterator[Row]:
    yield Row(f"{what}: gateway / bare proxy", "x", _ratio(rounds, "gateway", "proxy"), 3.5)
    if "litellm" in rounds[0]:
        with_limit = _ratio(rounds, "gateway", "litellm-equipped")
        yield Row(f"{what}: gateway / LiteLLM with a limit and metrics", "x", with_limit, 1 / 25)
        yield Row(f"{what}: gateway / LiteLLM as it comes", "x", _ratio(rounds, "gateway", "litellm"))


def _forwarded(rounds: Rounds) -> Iterator[Row]:
    yield from _over_the_proxy("a chunk more of a model as it is", rounds)


def _declared_chunks(rounds: Rounds) -> Iterator[Row]:
    yield from _over_the_proxy("a chunk more of a declared agent", rounds)


def _over_the_proxy(what: str, rounds: Rounds) -> Iterator[Row]:
    for name, how, target in (("", "", 20.0), ("-paced", f", {PACE * 1000:g} ms apart", None)):
        if f"proxy-{MANY}{name}" in rounds[0]:
            gateway, proxy = (_per_chunk(rounds, side, name) for side in ("gateway", "proxy"))
            over = [one - other for one, other in zip(gateway, proxy, strict=True)]
            yield Row(f"{what}{how}: CPU over the bare proxy", " us", over, target)
            yield Row(f"{what}{how}: CPU of the bare proxy", " us", proxy)


def _crowd(rounds: Rounds) -> Iterator[Row]:
    what = f"{CROWD:,} streams at once"
    yield Row(f"{what}: memory of each", " kB", _of(rounds, "gateway", "kb_a_stream"), 100.0)
    gaps = [each["gateway"]["gap_longest_ms"] / each["gateway"]["gap_median_ms"] for each in rounds]
    yield Row(f"{what}: longest gap between two chunks / median", "x", gaps, 10.0)


def _access(rounds: Rounds) -> Iterator[Row]:
    what = "with 100,000 keys and 10,000 rules / with 10 of each"
    yield Row(f"/v1/models {what}", "x", _ratio(rounds, "list-many", "list-few"), 1.2)
    yield Row(f"/v1/models/{{id}} {what}", "x", _ratio(rounds, "one-many", "one-few"), 1.2)


def _start(rounds: Rounds) -> Iterator[Row]:
    yield Row("start to first answer (not the first start)", " s", _of(rounds, "gateway", "seconds"), 5.0)
    yield Row("memory of a worker at rest, just started", " MB", _of(rounds, "gateway", "rss_mb"), 220.0)


def _rest(rounds: Rounds) -> Iterator[Row]:
    yield Row("memory of a worker at rest, after this load", " MB", _of(rounds, "gateway", "rss_mb"), 220.0)
    yield Row("CPU of a worker at rest, a second", " ms", _of(rounds, "gateway"))


_TABLE: Mapping[str, Callable[[Rounds], Iterator[Row]]] = {
    "start": _start,
    "models": _models,
    "stream": _stream,
    "chunks": _chunks,
    "paced": _paced,
    "whole": _whole,
    "pass_through": _pass_through,
    "forwarded": _forwarded,
    "declared": _declared,
    "declared_chunks": _declared_chunks,
    "crowd": _crowd,
    "access": _access,
    "rest": _rest,
}


def as_markdown(found: Sequence[Row], measured: Mapping[str, Rounds], effort: Effort) -> str:
    """What is judged first, then what is for information, then what the ratios are made of."""
    judged = [row.cells() for row in found if row.target is not None]
    told = [row.cells() for row in found if row.target is None]
    about = (
        f"{effort.rounds} rounds of {effort.requests} runs, {effort.clients} at once: the median of the rounds (lowest "
        "- highest). Ratios are of the CPU that the server process takes for a request."
    )
    blocks = [
        [about],
        _table(("what", "value", "target", ""), judged),
        _table(("for information", "value"), [row[:2] for row in told]),
        _table(("milliseconds a request", "CPU", "p50", "p95", "p50 of the first byte"), [*_requests(measured)]),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _requests(measured: Mapping[str, Rounds]) -> Iterator[tuple[str, ...]]:
    for name, rounds in measured.items():
        for side in rounds[0]:
            values = (_of(rounds, side, what) for what in ("cpu_ms", "p50_ms", "p95_ms", "first_p50_ms"))
            if "p50_ms" in rounds[0][side]:
                yield f"{name}: {side}", *(f"{median(value):.3g}" if any(value) else "" for value in values)


def _table(head: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> list[str]:
    if not cells:
        return []
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return [line(head), line(["-" * width for width in widths]), *map(line, cells)]


def write(folder: Path, found: Sequence[Row], measured: Mapping[str, Rounds], effort: Effort) -> None:
    """latest.md for people, latest.json with every round for machines."""
    folder.mkdir(exist_ok=True)
    facts: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "effort": asdict(effort),
        "rows": [asdict(row) | {"median": median(row.values), "verdict": row.verdict} for row in found],
        "rounds": measured,
    }
    (folder / "latest.json").write_text(json.dumps(facts, indent=1) + "\n")
    (folder / "latest.md").write_text(f"# Benchmark of {facts['at']}\n\n{as_markdown(found, measured, effort)}\n")
