"""What a training step through DPI costs in time and memory, as ratios to the backbone's own step.

`python -m benchmarks.training [--device cuda]` prints the rows and writes benchmarks/results/training.json. A step is
forward, backward and AdamW, of a batch of 64. Peak memory is measured in a process for each side.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.forward import EQUAL, fresh_batches, fresh_scalars
from benchmarks.measure import ROOT, Bench, Row, bench, options
from benchmarks.networks import MLP_NAME, PEERS, SMALL, dpi, inputs

BATCH = 64
BOUNDS = {1: 1.15, 8: 1.5, BATCH: 2.2}
"""Distinct scalars in the batch -> the step's ratio to the backbone's."""


REASONS = {
    MLP_NAME: "the backbone's step takes 2 ms, most of it calls; λ(s) and the blend are some 30 calls more and their"
    " derivatives, the optimiser has twice the numbers, and with several scalars every operator is called twice.",
    SMALL: "low resolutions multiply at θ0 and at θ1, high ones once with a weight for each scalar, and so do their"
    " derivatives.",
}


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--memory-of", choices=["backbone", *map(str, BOUNDS)], help="print one side's peak and stop")
    parser.add_argument("--network", default=SMALL)
    chosen = parser.parse_args()
    if chosen.memory_of is not None:
        print(json.dumps(peak_bytes(chosen)))
        return
    measured = bench("Training", chosen)
    for name in (SMALL, MLP_NAME):
        steps(measured, name)
    peers(measured, SMALL)
    memory(measured, chosen)
    measured.write("training" if chosen.device == "cpu" else f"training_{chosen.device.split(':')[0]}")


def steps(measured: Bench, name: str) -> None:
    """The three ways to draw scalars, each beside the backbone."""
    net, x = dpi(name, measured.device), inputs(name, BATCH, measured.device)
    plain = stepper(net.materialize(0.5), x)
    ours = stepper(net, x)
    for distinct, bound in BOUNDS.items():
        draws = scalars(distinct)
        measured.compare(
            f"step / backbone's, {distinct} scalar{'s' * (distinct > 1)} in a batch of {BATCH}, {name}",
            lambda draws=draws: ours(draws()),
            plain,
            bound=bound,
            reason=REASONS[name],
        )


def peers(measured: Bench, name: str) -> None:
    """One scalar per batch, beside the other ways."""
    net, x = dpi(name, measured.device), inputs(name, BATCH, measured.device)
    ours, draw = stepper(net, x), fresh_scalars()
    for what, build in PEERS.items():
        theirs = stepper(build(net).to(measured.device), x)
        measured.compare(
            f"step: DPI / {what}, {name}",
            lambda: ours(next(draw)),
            lambda theirs=theirs: theirs(next(draw)),
            bound=EQUAL,
        )


def memory(measured: Bench, chosen: argparse.Namespace) -> None:
    """Peak memory of a step, each side in a process of its own."""
    own = peak_of("backbone", chosen)
    due = 4 * 4 * dpi(SMALL).flat0.numel()  # the second set, its gradient and two moments, in float32
    for distinct in BOUNDS:
        ratio = peak_of(str(distinct), chosen) / own
        measured.add(
            Row(
                f"peak memory of a step / backbone's, {distinct} scalar{'s' * (distinct > 1)}, {chosen.network}",
                [ratio],
                beside=f"limit {1 + due / own:.2f}: the second set, its gradient and moments; backbone {own / 1e6:.0f} MB",
            )
        )


def peak_of(side: str, chosen: argparse.Namespace) -> float:
    """Bytes at the peak of some steps of one side, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training", "--memory-of", side, "--network", chosen.network]
    command += ["--device", chosen.device, *(["--threads", str(chosen.threads)] if chosen.threads else [])]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(run.stdout.splitlines()[-1])


def peak_bytes(chosen: argparse.Namespace) -> float:
    """What some steps need above what the process held before the network was built."""
    bench("", chosen)
    on_gpu, before = chosen.device.startswith("cuda"), resident()
    x = inputs(chosen.network, BATCH, chosen.device)
    if chosen.memory_of == "backbone":
        step: Callable[[], object] = stepper(dpi(chosen.network, chosen.device).materialize(0.5), x)
    else:
        draws, ours = scalars(int(chosen.memory_of)), stepper(dpi(chosen.network, chosen.device), x)
        step = lambda: ours(draws())  # noqa: E731
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, done))
    watcher.start()
    for _ in range(3):
        step()
    done.set()
    watcher.join()
    return torch.cuda.max_memory_allocated() if on_gpu else peak[0] - before


def _watch(peak: list[int], done: threading.Event) -> None:
    while not done.is_set():
        peak[0] = max(peak[0], resident())
        time.sleep(0.002)


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def stepper(network: nn.Module, x: Tensor) -> Callable[..., None]:
    """A function that makes one training step at the given scalars."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
    target = torch.zeros_like(x)

    def step(*s: float | Tensor) -> None:
        optimiser.zero_grad()
        nn.functional.mse_loss(network(x, *s), target).backward()
        optimiser.step()

    return step


def scalars(distinct: int) -> Callable[[], Tensor]:
    """Draws s for a batch: `distinct` values that did not occur before, each for as many samples."""
    draws = fresh_batches(distinct)
    return lambda: next(draws).repeat(BATCH // distinct)


if __name__ == "__main__":
    main()
