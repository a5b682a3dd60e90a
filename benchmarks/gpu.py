"""The table of the accelerator at hand: `python -m benchmarks.gpu` says so where there is none.

Forward and step ratios, θ(s) against bandwidth, a sweep, and samples a second; writes benchmarks/results/gpu.json.
"""

import argparse
import dataclasses
from collections.abc import Callable

import torch
from torch import nn

import dpi_core
from benchmarks import forward, training
from benchmarks.measure import CLOCKS, ROOT, Bench, Row, device_name, timed
from benchmarks.networks import LARGE, SMALL, dpi, inputs
from dpi_core.analysis.denoising import sweep
from dpi_core.conditioning import Blind
from dpi_core.denoiser import Denoiser
from dpi_core.noise_processes import FlowMatching
from dpi_core.parallel import Team
from dpi_core.training import TrainingConfig, noised, optimiser_of, step_taker, stratified_scalars

SWEEP_BOUND_MS = 50.0
LAUNCHING = "launching the kernels, and the calls around that, take longer than they do."
TWICE = "one pass makes every convolution twice, and so are its derivatives; passes for each would launch more kernels."
CHECKPOINT = "fashion-flow-dpi"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", help="cuda:0, mps or cpu; the first accelerator by default")
    chosen = parser.parse_args()
    device = chosen.device or accelerator()
    if device is None:
        print("There is no GPU on this machine: torch sees neither CUDA nor MPS, so nothing was measured.")
        return
    print(device_name(device))
    measured = Bench(f"Device: {device_name(device)}", chosen.runs, "wall", device)
    with torch.no_grad():
        forward.materialising(measured)
        bandwidth(measured)
        for name in (SMALL, LARGE):
            forward.fresh(measured, name, 64, bound=1.05)
            forward.reused(measured, name, 64)
        forward.several(measured, SMALL, 64)
        sweeping(measured)
        precision(measured)
    training.steps(measured, SMALL)
    if device.startswith("cuda"):
        replaying(measured)
    sampling(measured)
    # What the rows of a CPU miss their bounds for does not hold here.
    measured.rows = [
        dataclasses.replace(row, reason=TWICE if " scalars" in row.what else LAUNCHING) for row in measured.rows
    ]
    measured.write("gpu")


def accelerator() -> str | None:
    """The first accelerator that torch sees."""
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else None


def bandwidth(measured: Bench) -> None:
    """GB/s of θ(s), counted as two sets read and one written."""
    net, scalars = dpi(LARGE, measured.device), forward.fresh_scalars()
    numbers = net.flat0.numel()
    times = [
        timed(lambda: net.effective_parameters(next(scalars)), 20, CLOCKS["wall"], measured.device)
        for _ in range(measured.runs)
    ]
    measured.add(Row("θ(s) of 30 M numbers", [12 * numbers / t / 1e9 for t in times], "GB/s"))


def sweeping(measured: Bench) -> None:
    model = dpi_core.load(ROOT / "checkpoints" / CHECKPOINT, measured.device)
    x0, eps = torch.randn(2, 16, *model.recipe.shape, generator=torch.Generator().manual_seed(0))
    grid = torch.linspace(0, 1, 64).tolist()
    work = lambda: list(sweep(model.denoiser, x0, eps, grid))  # noqa: E731
    work()
    times = [1e3 * timed(work, 1, CLOCKS["wall"], measured.device) for _ in range(measured.runs)]
    measured.add(Row(f"64-point sweep of 16 images, {CHECKPOINT}", times, "ms", SWEEP_BOUND_MS))


def precision(measured: Bench) -> None:
    """How far x̂0 in bfloat16 is from float32, in dB of PSNR over a sweep."""
    model = dpi_core.load(ROOT / "checkpoints" / CHECKPOINT, measured.device)
    clean = model.sample(16, steps=8, seed=0).x.float()
    eps, found = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)).to(clean), []
    for s in torch.linspace(0.1, 0.9, 9).tolist():
        x_s = model.process.add_noise(clean, eps, s)
        with torch.autocast(measured.device.split(":")[0], torch.bfloat16):
            rough = model.denoise(x_s, s).float()
        errors = [(estimate - clean).square().mean() for estimate in (model.denoise(x_s, s), rough)]
        found.append(10 * float((errors[1] / errors[0]).log10()))
    measured.add(Row(f"PSNR lost by bfloat16, {CHECKPOINT}", found, "dB", 0.01))


def replaying(measured: Bench) -> None:
    """Steps of training as `train` takes them, recorded once: beside launched ones, and DPI's beside the backbone's."""
    net = dpi(SMALL, measured.device)
    plain = net.materialize(0.5)
    for distinct, bound in training.BOUNDS.items():
        ours, scalars = trainer(net, distinct, replays=True), f"{distinct} scalar{'s' * (distinct > 1)}"
        measured.compare(
            f"replayed step / backbone's replayed, {scalars} in a batch of {training.BATCH}, {SMALL}",
            ours,
            trainer(Blind(plain), distinct, replays=True),
            bound=bound,
        )
        measured.compare(
            f"replayed step / launched one, {scalars} in a batch of {training.BATCH}, {SMALL}",
            ours,
            trainer(net, distinct, replays=False),
        )


def trainer(net: nn.Module, distinct: int, replays: bool) -> Callable[[], object]:
    """Takes one step after another on the same problem, in bfloat16."""
    x0 = inputs(SMALL, training.BATCH)
    denoiser = Denoiser(net, FlowMatching()).train()
    config = TrainingConfig(steps=1, batch_size=len(x0), scalars_per_batch=distinct, precision="bfloat16")
    s = stratified_scalars(len(x0), distinct, torch.Generator().manual_seed(0))
    problem = noised(denoiser, x0, torch.randn_like(x0), s)
    optimiser = optimiser_of(denoiser, dataclasses.replace(config, learning_rate=1e-6, phi_learning_rate=1e-6))
    step = step_taker(denoiser, config, optimiser, Team(denoiser.device), replays)
    return lambda: step(problem)


def sampling(measured: Bench) -> None:
    model = dpi_core.load(ROOT / "checkpoints" / CHECKPOINT, measured.device)
    work = lambda: model.sample(64, "heun", 32)  # noqa: E731
    work()
    times = [timed(work, 1, CLOCKS["wall"], measured.device) for _ in range(max(1, min(3, measured.runs)))]
    measured.add(Row(f"samples a second, {CHECKPOINT}, Heun 32, 64 at a time", [64 / t for t in times], "1/s"))


if __name__ == "__main__":
    main()
