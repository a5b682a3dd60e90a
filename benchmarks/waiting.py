"""What do torch's threads cost while they wait for one another? `python -m benchmarks.waiting` writes results/waiting.json.

OpenMP lets a thread that waits spin (its default) or sleep (OMP_WAIT_POLICY=passive, as the app has it). Sweeps of small
batches are timed both ways by turns, each in a process of its own: on the machine as it is, and beside one busy
process for each core, which is what sessions, browsers or another model's training are to it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.measure import ROOT, Row, write

CASES = {"digits-vp-dpi, 4 images": ("digits-vp-dpi", 4)}
POLICIES = ("", "passive")
"""Values of OMP_WAIT_POLICY; without one OpenMP spins for a while."""

LEVELS, REPEATS = 4, 2
BUSY = "while True: pass"

REASON = (
    "a sleeping thread is woken at every barrier, which counts where a layer is as short as here; where anything else runs on"
    " the machine, sleeping is what saves most."
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
                seen = [[timed(policy, case) for policy in POLICIES] for _ in range(chosen.runs)]
            spin, sleep = (statistics.median(values) for values in zip(*seen, strict=True))
            ratios = [b / a for a, b in seen]
            beside = f"a level: {1e3 * sleep:.1f} against {1e3 * spin:.1f} ms"
            rows.append(
                Row(f"seconds asleep / spinning: {what}, {around}", ratios, bound=1.2, beside=beside, reason=REASON)
            )
            print(
                f"{rows[-1].what}: {rows[-1].median:.3g} ({min(ratios):.3g} to {max(ratios):.3g}); {beside}", flush=True
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


def timed(policy: str, case: Sequence[object]) -> float:
    """Seconds of one level in a process that waits so."""
    command = [sys.executable, "-m", "benchmarks.waiting", "--measure", *map(str, case)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
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
