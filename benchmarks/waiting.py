"""What do torch's threads cost while they wait for one another? `python -m benchmarks.waiting` writes results/waiting.json.

A thread that waits spins for milliseconds before it sleeps (OpenMP's default), for a tenth of one (the app), or not at all
(OMP_WAIT_POLICY=passive). Sweeps of small batches are timed in these ways by turns, each in a process of its own: on the
machine as it is, and beside one busy process for each core, which is what sessions, browsers or another model's training
are to it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from app.services.computer import SPINS
from benchmarks.measure import ROOT, Row, write

CASES = {"digits-vp-dpi, 4 images": ("digits-vp-dpi", 4)}
WAYS = {"app": {"GOMP_SPINCOUNT": SPINS}, "default": {}, "asleep": {"OMP_WAIT_POLICY": "passive"}}
"""What the environment says of waiting."""

LEVELS, REPEATS = 4, 2
BUSY = "while True: pass"

REASON = (
    "beside a busy process for every core, a thread that has spun is given a core later than one that has slept; with a"
    " core to spare, sleeping is what costs."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("MODEL", "IMAGES"), help="print the seconds of one level")
    chosen = parser.parse_args()
    if chosen.measure:
        print(seconds_of_a_level(chosen.measure[0], int(chosen.measure[1])))
        return
    rows = []
    for around, processes in (("no busy process", 0), ("one busy process for each core", os.cpu_count() or 1)):
        for what, case in CASES.items():
            with busy(processes):
                runs = [{way: timed(told, case) for way, told in WAYS.items()} for _ in range(chosen.runs)]
            medians = {way: statistics.median(run[way] for run in runs) for way in WAYS}
            for other in ("default", "asleep"):
                row = Row(
                    f"a level, app / {other}: {what}, {around}",
                    [run["app"] / run[other] for run in runs],
                    bound=1.2,
                    beside=f"{1e3 * medians['app']:.1f} against {1e3 * medians[other]:.1f} ms",
                    reason=REASON,
                )
                rows.append(row)
                print(
                    f"{row.what}: {row.median:.3g} ({min(row.values):.3g} to {max(row.values):.3g}); {row.beside}",
                    flush=True,
                )
    write("waiting", "Threads that wait for one another", rows)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def timed(told: Mapping[str, str], case: Sequence[object]) -> float:
    """Seconds of one level in a process that waits so."""
    command = [sys.executable, "-m", "benchmarks.waiting", "--measure", *map(str, case)]
    names = {name for way in WAYS.values() for name in way}
    environment = {name: value for name, value in os.environ.items() if name not in names} | told
    return float(subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout)


def seconds_of_a_level(name: str, images: int) -> float:
    """The median over some sweeps, after one that warms up."""
    import torch

    import dpi_core
    from dpi_core.analysis.denoising import sweep

    model = dpi_core.load(ROOT / "checkpoints" / name)
    x0, eps = torch.zeros(2, images, *model.recipe.shape)
    grid, found = [(level + 0.5) / LEVELS for level in range(LEVELS)], []
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        for _frame in sweep(model.denoiser, x0, eps, grid):
            pass
        found.append((time.perf_counter() - began) / LEVELS)
    return statistics.median(found[1:])


if __name__ == "__main__":
    main()
