"""Images per second of a sampling run beside diffusers' Heun sampler on the same network, and what θ(s) and large batches cost.

`python -m benchmarks.sampling [--repeats 5]` prints a table and writes benchmarks/results/sampling.json. Both sides start from
the same kind of noise, call the same network the same number of times, and take turns, so that a busy machine slows both.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import FlowMatchHeunDiscreteScheduler

import dpi_core
from benchmarks.measure import ROOT, Row, device_name, write
from dpi_core.model import Model

THETA_BOUND = 0.03
LARGE = 512
"""Samples of the batch that the denoiser is free to take in parts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "fashion-flow-dpi")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = dpi_core.load(options.checkpoint, options.device)
    evaluations = count_evaluations(model, options.steps)
    sides = {"dpi_core": ours, "diffusers": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run(model, options.images, 2)  # warm-up
    for repeat in range(options.repeats):
        for name, run in sorted(sides.items(), reverse=bool(repeat % 2)):
            seconds[name].append(timed(lambda run=run: run(model, options.images, options.steps)))
            print(f"{repeat + 1}/{options.repeats} {name}: {seconds[name][-1]:.2f} s", flush=True)
    theta, evaluation = theta_and_evaluation(model, options.images, 5 * options.repeats)
    report(options, evaluations, seconds, theta, evaluation, parts_and_one_pass(model, options.repeats))


def ours(model: Model, images: int, steps: int) -> torch.Tensor:
    return model.sample(images, "heun", steps).x


@torch.no_grad()
def theirs(model: Model, images: int, steps: int) -> torch.Tensor:
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(steps)
    x = model.noise(range(images)).to(model.denoiser.device, model.denoiser.dtype)
    for t in scheduler.timesteps:
        velocity = model.net(x, t.item() / scheduler.config.num_train_timesteps)
        x = scheduler.step(velocity, t, x).prev_sample
    return x


def count_evaluations(model: Model, steps: int) -> int:
    """Of the network on either side, which have to be as many."""
    counts = []
    for run in (ours, theirs):
        calls: list[int] = []
        hook = model.net.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        run(model, 1, steps)
        hook.remove()
        counts.append(len(calls))
    if counts[0] != counts[1]:
        raise SystemExit(f"the two samplers call the network {counts[0]} and {counts[1]} times; nothing to compare.")
    return counts[0]


@torch.no_grad()
def theta_and_evaluation(model: Model, images: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of making θ(s), and of one network evaluation that makes it, each at an s not seen before."""
    x = model.noise(range(images)).to(model.denoiser.device, model.denoiser.dtype)
    theta, evaluation = [], []
    levels = iter(torch.linspace(0.9, 0.1, 2 * repeats).tolist())
    for s, other in zip(levels, levels, strict=True):
        theta.append(timed(lambda s=s: model.net.effective_parameters(s)))
        evaluation.append(timed(lambda s=other: model.net(x, s)))
    return theta, evaluation


@torch.no_grad()
def parts_and_one_pass(model: Model, repeats: int) -> list[float]:
    """Seconds of a large batch as the denoiser takes it over those of the network in one pass, in turns."""
    x = model.noise(range(LARGE)).to(model.denoiser.device, model.denoiser.dtype)
    levels = torch.linspace(0.9, 0.1, repeats).tolist()
    return [timed(lambda s=s: model.denoise(x, s)) / timed(lambda s=s: model.net(x, s)) for s in levels]


def timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def report(
    options: argparse.Namespace,
    evaluations: int,
    seconds: dict[str, list[float]],
    theta: list[float],
    evaluation: list[float],
    large: list[float],
) -> None:
    ratios = [ours / theirs for ours, theirs in zip(seconds["dpi_core"], seconds["diffusers"], strict=True)]
    rates = {name: options.images / statistics.median(values) for name, values in seconds.items()}
    what = (
        f"{options.images} images in {options.steps} Heun steps, {evaluations} evaluations, {options.checkpoint.name}"
    )
    shares = [part / whole for part, whole in zip(theta, evaluation, strict=True)]
    rows = [
        Row(
            f"seconds / diffusers', {what}",
            ratios,
            bound=1.0,
            beside=", ".join(f"{name} {rate:.2f} images/s" for name, rate in rates.items()),
        ),
        Row("θ(s) / an evaluation of the network", shares, bound=THETA_BOUND),
        Row(f"seconds / one pass, x̂0 of {LARGE} images", large, bound=1.0),
    ]
    for row in rows:
        print(
            f"{row.what}: {row.median:.3f} ({min(row.values):.3f} to {max(row.values):.3f}), bound {row.bound:g}; {row.beside}"
        )
    rates_of_each = [theirs / ours for ours, theirs in zip(seconds["dpi_core"], seconds["diffusers"], strict=True)]
    details = {
        "checkpoint": options.checkpoint.name,
        "images": options.images,
        "steps": options.steps,
        "evaluations": evaluations,
        "throughput_ratio": {
            "median": statistics.median(rates_of_each),
            "min": min(rates_of_each),
            "max": max(rates_of_each),
        },
        "theta": {"share": statistics.median(theta) / statistics.median(evaluation)},
    }
    about = {"device": device_name(options.device), "threads": options.threads}
    write("sampling", "Sampling", rows, about, details)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    main()
