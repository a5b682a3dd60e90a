"""`python docs/measured.py [--check]`: puts the measured numbers into the documentation; with --check only compares.

A number stands between `<!-- NAME MODEL -->` and `<!-- -->`, and NAME is one of `NUMBERS`.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
NUMBER = re.compile(r"<!-- (\w+)(?: ([\w-]+))? -->(.*?)<!-- -->")


def main() -> None:
    """Renews or checks all pages; exit status 1 where --check finds another number."""
    stale = [page.name for page in sorted(FOLDER.glob("*.md")) if renewed(page.read_text()) != page.read_text()]
    if "--check" in sys.argv:
        sys.exit(
            f"Other numbers have been measured for {', '.join(stale)}: run `python docs/measured.py`." if stale else 0
        )
    for name in stale:
        (FOLDER / name).write_text(renewed((FOLDER / name).read_text()))


def renewed(text: str) -> str:
    """A page with the numbers that are measured now."""

    def replace(match: re.Match) -> str:
        name, model, old = match.groups()
        try:
            value = NUMBERS[name](_metrics(model) if model else {})
        except FileNotFoundError:
            value = "(not measured yet)"
        return match.group().replace(f"-->{old}<!--", f"-->{value}<!--")

    return NUMBER.sub(replace, text)


def _metrics(model: str) -> dict[str, Any]:
    return json.loads((ROOT / "checkpoints" / model / "metrics.json").read_text())


def _rise(metrics: dict[str, Any]) -> str:
    found = metrics["lambda"]["saturation"][0]
    return f"{found['low']:.2f} to {found['high']:.2f}"


def _average(metrics: dict[str, Any]) -> str:
    return f"{statistics.fmean(level['mean'] for level in metrics['held_out']['psnr']):.2f}"


def _digits() -> dict[str, Any]:
    return json.loads((ROOT / "results" / "digits-vp" / "metrics.json").read_text())


def _gain(method: str) -> str:
    """Of DPI over another method, on the digits."""
    return _interval(_digits()["against"][method]["psnr"]["average"])


def _gain_at_equal_time(method: str) -> str:
    return _interval(_digits()["equal_time"][method]["difference"])


def _interval(found: dict[str, float]) -> str:
    mean, low, high = (f"{found[key]:.3f}".replace("-", "−") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _benchmark(name: str, row: str) -> float:
    """The median of the row that begins so."""
    rows = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["rows"]
    return statistics.median(next(each["values"] for each in rows if each["what"].startswith(row)))


def _blend(_: dict[str, Any]) -> str:
    return f"{100 * _benchmark('sampling', 'θ(s) / an evaluation'):.1f} %"


CLASS_RATE = 200 / 30
"""Computations a second for 200 people who ask every 30 s."""


def _replica() -> float:
    return _benchmark("cluster", "1 replica: small")


def _class_replicas(_: dict[str, Any]) -> str:
    """Replicas that a class keeps busy for half of the time."""
    return f"{math.ceil(2 * CLASS_RATE / _replica())}"


def _step(_: dict[str, Any]) -> str:
    """How often as long a step of DPI takes as the blind network's, measured side by side."""
    methods = json.loads((ROOT / "results/digits-vp/metrics.json").read_text())["methods"]
    return f"{methods['dpi']['cost']['step_ms'] / methods['none']['cost']['step_ms']:.1f}"


NUMBERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "gain_embedding": lambda _: _gain("embedding"),
    "gain_input_map": lambda _: _gain("input_map"),
    "same_time_embedding": lambda _: _gain_at_equal_time("embedding"),
    "same_time_input_map": lambda _: _gain_at_equal_time("input_map"),
    "rise": _rise,
    "average": _average,
    "blend": _blend,
    "class_rate": lambda _: f"{CLASS_RATE:.1f}",
    "class_replicas": _class_replicas,
    "one_replica": lambda _: f"{_replica():.1f}",
    "two_replicas": lambda _: f"{_benchmark('cluster', '2 replicas: small'):.1f}",
    "replica_memory": lambda _: f"{_benchmark('cluster', '1 replica: memory'):.0f} MB",
    "parameters": lambda metrics: f"{metrics['parameters']:,}",
    "step": _step,
}

if __name__ == "__main__":
    main()
