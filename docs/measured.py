"""`python docs/measured.py [--check]`: puts the measured numbers into the documentation; with --check only compares.

A number stands between `<!-- NAME SUBJECT -->` and `<!-- -->`; NAME is one of `NUMBERS`, and SUBJECT, where it needs one, a
model that ships or a method of a sweep.
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
        name, subject, old = match.groups(default="")
        try:
            value = NUMBERS[name](subject)
        except FileNotFoundError:
            value = "(not measured yet)"
        return match.group().replace(f"-->{old}<!--", f"-->{value}<!--")

    return NUMBER.sub(replace, text)


def _metrics(model: str) -> dict[str, Any]:
    return json.loads((ROOT / "checkpoints" / model / "metrics.json").read_text())


def _method(name: str) -> tuple[dict[str, Any], str]:
    """A sweep's metrics and the method of it that "<sweep>-<method>" names."""
    sweep, _, method = name.rpartition("-")
    return json.loads((ROOT / "results" / sweep / "metrics.json").read_text()), method


def _rise(model: str) -> str:
    found = _metrics(model)["lambda"]["saturation"][0]
    return f"{found['low']:.2f} to {found['high']:.2f}"


def _average(model: str) -> str:
    return f"{statistics.fmean(level['mean'] for level in _metrics(model)['held_out']['psnr']):.2f}"


def _gain(name: str) -> str:
    """In PSNR, of the first method of a sweep over another."""
    sweep, method = _method(name)
    return _interval(sweep["against"][method]["psnr"]["average"])


def _gain_at_equal_time(name: str) -> str:
    sweep, method = _method(name)
    return _interval(sweep["equal_time"][method]["difference"])


def _frechet(name: str) -> str:
    sweep, method = _method(name)
    return f"{statistics.fmean(run['frechet'] for run in sweep['methods'][method]['generation']):.2f}"


def _interval(found: dict[str, float]) -> str:
    mean, low, high = (f"{found[key]:.3f}".replace("-", "−") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _benchmark(name: str, row: str) -> float:
    """The median of the row that begins so."""
    rows = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["rows"]
    return statistics.median(next(each["values"] for each in rows if each["what"].startswith(row)))


def _blend(_: str) -> str:
    return f"{100 * _benchmark('sampling', 'θ(s) / an evaluation'):.1f} %"


CLASS_RATE = 200 / 30
"""Computations a second for 200 people who ask every 30 s."""


def _replica() -> float:
    return _benchmark("cluster", "1 replica: small")


def _class_replicas(_: str) -> str:
    """Replicas that a class keeps busy for half of the time."""
    return f"{math.ceil(2 * CLASS_RATE / _replica())}"


def _step(name: str) -> str:
    """How often as long a step of a sweep's first method takes as another's, measured side by side."""
    sweep, method = _method(name)
    first = next(iter(sweep["methods"]))
    ours, theirs = (sweep["methods"][each]["cost"]["step_ms"] for each in (first, method))
    return f"{ours / theirs:.1f}"


NUMBERS: dict[str, Callable[[str], str]] = {
    "gain": _gain,
    "same_time": _gain_at_equal_time,
    "frechet": _frechet,
    "rise": _rise,
    "average": _average,
    "blend": _blend,
    "class_rate": lambda _: f"{CLASS_RATE:.1f}",
    "class_replicas": _class_replicas,
    "one_replica": lambda _: f"{_replica():.1f}",
    "two_replicas": lambda _: f"{_benchmark('cluster', '2 replicas: small'):.1f}",
    "replica_memory": lambda _: f"{_benchmark('cluster', '1 replica: memory'):.0f} MB",
    "parameters": lambda model: f"{_metrics(model)['parameters']:,}",
    "step": _step,
}

if __name__ == "__main__":
    main()
