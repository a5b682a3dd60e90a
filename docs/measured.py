"""`python docs/measured.py [--check]`: puts the measured numbers into the documentation; with --check only compares.

A number stands between `<!-- NAME MODEL -->` and `<!-- -->`, and NAME is one of `NUMBERS`.
"""

from __future__ import annotations

import json
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
        value = NUMBERS[name](_metrics(model) if model else {})
        return match.group().replace(f"-->{old}<!--", f"-->{value}<!--")

    return NUMBER.sub(replace, text)


def _metrics(model: str) -> dict[str, Any]:
    return json.loads((ROOT / "checkpoints" / model / "metrics.json").read_text())


def _rise(metrics: dict[str, Any]) -> str:
    found = metrics["lambda"]["saturation"][0]
    return f"{found['low']:.2f} to {found['high']:.2f}"


def _average(metrics: dict[str, Any]) -> str:
    return f"{statistics.fmean(level['mean'] for level in metrics['held_out']['psnr']):.2f}"


def _blend(_: dict[str, Any]) -> str:
    rows = json.loads((ROOT / "benchmarks/results/sampling.json").read_text())["rows"]
    shares = next(row["values"] for row in rows if row["what"].startswith("θ(s) / an evaluation"))
    return f"{100 * statistics.median(shares):.1f} %"


def _step(_: dict[str, Any]) -> str:
    """How often as long a step of DPI takes as the blind network's, measured side by side."""
    methods = json.loads((ROOT / "results/digits-vp/metrics.json").read_text())["methods"]
    return f"{methods['dpi']['cost']['step_ms'] / methods['none']['cost']['step_ms']:.1f}"


NUMBERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "rise": _rise,
    "average": _average,
    "blend": _blend,
    "parameters": lambda metrics: f"{metrics['parameters']:,}",
    "step": _step,
}

if __name__ == "__main__":
    main()
