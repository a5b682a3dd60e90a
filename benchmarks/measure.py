"""What the benchmarks share: two sides timed by turns, rows with a bound, the machine's name, and one form of JSON.

A ratio is taken from each pair of neighbouring measurements, so that a machine that slows down slows both sides. Its
median over the pairs is the result and their smallest and largest the spread.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts what the process computed and not what it waited for: for a machine that others use at the same time."""

SHORTEST = 0.02
"""Seconds that one measurement takes at least; what is faster is called several times in it."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        what: is measured, in words.
        values: one measurement each, in `unit`.
        unit: "×" for a ratio, or s, ms, MB.
        bound: what the median may be at most; None where there is no bound.
        beside: what the machine or the method allows, or which times the ratio is made of.
        reason: why it misses its bound on the machine the lines were written on; shown only where it does.
    """

    what: str
    values: list[float]
    unit: str = "×"
    bound: float | None = None
    beside: str = ""
    reason: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def misses(self) -> bool:
        return self.bound is not None and self.median > self.bound


@dataclass
class Bench:
    """Settings of one run, and what it has found."""

    title: str
    runs: int
    clock: str
    device: str
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Takes a row and prints it."""
        self.rows.append(row)
        low, high = min(row.values), max(row.values)
        bound = "" if row.bound is None else f", bound {row.bound:g}{', MISSED' if row.misses else ''}"
        beside = f"; {row.beside}" if row.beside else ""
        print(
            f"{row.what}: {row.median:.4g} {row.unit} ({low:.4g} to {high:.4g}, n = {len(row.values)}{bound}{beside})",
            flush=True,
        )

    def compare(
        self, what: str, numerator: Callable[[], object], denominator: Callable[[], object], **row: Any
    ) -> list[float]:
        """Times two sides by turns and takes the row of their ratio; returns the denominator's seconds."""
        above, below = by_turns(numerator, denominator, self.runs, CLOCKS[self.clock], self.device)
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        times = f"{seconds(statistics.median(above))} against {seconds(statistics.median(below))}"
        limit = row.pop("beside", "")
        beside = f"{limit}; {times}" if limit else times
        self.add(Row(what, ratios, beside=beside, **row))
        return below

    def write(self, name: str, command: str | None = None) -> None:
        """Writes the rows to benchmarks/results/<name>.json; see the function."""
        about = {"device": device_name(self.device), "clock": self.clock}
        write(name, self.title, self.rows, about, command=command)


def by_turns(
    a: Callable[[], object], b: Callable[[], object], runs: int, clock: Callable[[], float], device: str = "cpu"
) -> tuple[list[float], list[float]]:
    """Seconds of one call of each of two sides, `runs` times by turns: a b, b a, a b …"""
    sides = (a, b)
    for side in sides:  # warm-up
        timed(side, 3, clock, device)
    repeats = [max(1, round(SHORTEST / max(timed(side, 1, clock, device), 1e-7))) for side in sides]
    found: tuple[list[float], list[float]] = ([], [])
    for run in range(runs):
        for index in (0, 1) if run % 2 == 0 else (1, 0):
            found[index].append(timed(sides[index], repeats[index], clock, device))
    return found


def timed(work: Callable[[], object], repeats: int, clock: Callable[[], float], device: str = "cpu") -> float:
    """Seconds of one call, the mean over `repeats`."""
    wait_for(device)
    began = clock()
    for _ in range(repeats):
        work()
    wait_for(device)
    return (clock() - began) / repeats


def wait_for(device: str) -> None:
    """Until an accelerator has done what it was given."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device == "mps":
        import torch

        torch.mps.synchronize()


def seconds(value: float) -> str:
    """A time with a unit that suits it."""
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.2f} ms" if value >= 1e-3 else f"{1e6 * value:.0f} µs"


def options(description: str, runs: int = 5) -> argparse.ArgumentParser:
    """The arguments that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help="pairs of measurements for each row")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: for a machine that is not quiet")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch; all cores by default")
    parser.add_argument("--device", default="cpu")
    return parser


def bench(title: str, chosen: argparse.Namespace) -> Bench:
    """Settings from the arguments; sets torch's threads."""
    import torch

    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    return Bench(title, chosen.runs, chosen.clock, chosen.device)


def device_name(device: str) -> str:
    """The processor's or the accelerator's name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Where something was measured."""
    try:
        import torch

        versions = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    except ImportError:
        versions = {}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": device_name("cpu"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
        "load": load,
    }


def write(
    name: str,
    title: str,
    rows: Sequence[Row],
    about: dict[str, Any] | None = None,
    details: dict[str, Any] | None = None,
    command: str | None = None,
) -> None:
    """Writes rows to benchmarks/results/<name>.json, from which `benchmarks.report` makes BENCHMARKS.md.

    Args:
        name: of the benchmark's module.
        title: of its table.
        rows: of its table.
        about: what is to be said of the machine besides.
        details: kept in the file for other readers of it.
        command: the module and its arguments that measure it, where that is more than its name.
    """
    RESULTS.mkdir(exist_ok=True)
    content = {
        "title": title,
        "command": f"python -m benchmarks.{command or name}",
        "machine": machine() | (about or {}),
        "rows": [asdict(row) for row in rows],
        **(details or {}),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
