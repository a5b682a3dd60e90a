"""How fast each sampler's error falls with its steps, and a note of all that is measured of trajectories.

`python benchmarks/orders.py` prints a table and writes benchmarks/results/orders.json; then it writes docs/trajectories.md
from that file and from those of benchmarks/sampling.py and benchmarks/player.py, where they are.

The denoiser is the closed-form optimum of a mixture of three Gaussians, so that nothing but the solver errs; the runs go from
s = 0.8 to s = 0.02 on equal steps and are compared with RK4 in 160 steps. An order of p halves the error p times for twice the
steps.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpi_core.denoiser import Denoiser
from dpi_core.mixtures import GaussianMixture
from dpi_core.noise_processes import FlowMatching, NoiseProcess, VEDiffusion, VPDiffusion
from dpi_core.samplers import SAMPLERS, SampleNoise, sample_states

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PROCESSES = {"VP diffusion": VPDiffusion(), "EDM": VEDiffusion(), "flow matching": FlowMatching()}
STEPS = {"euler": (40, 80), "ddim": (40, 80), "heun": (20, 40), "dpmpp_2m": (40, 80), "rk4": (10, 20)}
FINE = ("rk4", 160)
HIGH, LOW, POINTS = 0.8, 0.02, 64


class Optimum(nn.Module):
    """The network whose denoiser is the mixture's posterior mean."""

    def __init__(self, process: NoiseProcess, mixture: GaussianMixture) -> None:
        super().__init__()
        self.process, self.mixture = process, mixture
        self.dtype_of = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, s: float) -> Tensor:
        pre, c = self.process.preconditioning(s), self.process.coefficients(s)
        x_s = x / pre.c_in
        return (self.mixture.posterior_mean(x_s, c.alpha, c.sigma) - pre.c_skip * x_s) / pre.c_out


ABOUT_ORDERS = """Measured on the closed-form optimum of a mixture, from s = 0.8 to s = 0.02. A whole run ends at
s = 0, where Heun and RK4 take one step of Euler's: there they fall less steeply, unless that step is short (even in log-SNR)."""


def main() -> None:
    rows = []
    for family, process in PROCESSES.items():
        fine = end(process, *FINE)
        for sampler, steps in STEPS.items():
            errors = [(end(process, sampler, count) - fine).square().mean().sqrt().item() for count in steps]
            order = math.log(errors[0] / errors[1]) / math.log(steps[1] / steps[0])
            rows.append({"process": family, "sampler": sampler, "steps": steps, "errors": errors, "order": order})
    print(orders_table(rows))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "orders.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    (ROOT / "docs" / "trajectories.md").write_text(note(rows), encoding="utf-8")


@torch.no_grad()
def end(process: NoiseProcess, sampler: str, steps: int) -> Tensor:
    """Where a run stands at the low end."""
    means = torch.tensor([[0.8, 0.0], [-0.6, 0.5], [0.0, -0.9]], dtype=torch.float64)
    covariances = 0.36 * torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
    mixture = GaussianMixture(means, covariances, torch.ones(3, dtype=torch.float64) / 3)
    denoiser, c = Denoiser(Optimum(process, mixture), process), process.coefficients(HIGH)
    noise = SampleNoise(0, range(POINTS), (2,))
    x = torch.hypot(c.alpha, c.sigma) * noise.draw()
    grid = [*np.linspace(HIGH, LOW, steps + 1).tolist(), 0.0]
    states = sample_states(denoiser, SAMPLERS[sampler], grid, noise, x)
    return next(state.x for state in states if state.step == steps)


def orders_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| sampler | " + " | ".join(PROCESSES) + " |", "|---" * (1 + len(PROCESSES)) + "|"]
    for sampler in STEPS:
        orders = [f"{row['order']:.2f}" for row in rows if row["sampler"] == sampler]
        lines.append(f"| {sampler} | " + " | ".join(orders) + " |")
    return "\n".join(lines)


def note(rows: list[dict[str, Any]]) -> str:
    parts = ["# Trajectories in numbers", "Written by `python benchmarks/orders.py`.", "## Order of each sampler"]
    parts += [ABOUT_ORDERS, orders_table(rows)]
    player, sampling = (RESULTS / f"{name}.json" for name in ("player", "sampling"))
    if player.exists():
        parts += ["## The player: bytes and frames a second", *player_part(json.loads(player.read_text()))]
    if sampling.exists():
        parts += ["## Throughput against diffusers", *sampling_part(json.loads(sampling.read_text()))]
    return "\n\n".join(parts) + "\n"


def player_part(found: dict[str, Any]) -> list[str]:
    table = ["| model | samples | columns | MB of a run | frames/s | main thread, ms a frame |", "|---" * 6 + "|"]
    for row in found["rows"]:
        samples, megabytes = found["samples"][row["model"]], row["bytes"] / 1e6
        speed = f"{row['frames_per_second']:.0f} | {row['main_thread_ms_per_frame']:.1f}"
        table.append(f"| {row['model']} | {samples} | {row['columns']} | {megabytes:.2f} | {speed} |")
    text = f"Runs of {found['states']} states in headless Chromium without a GPU, {found['machine']['cores']} cores."
    return [text, "\n".join(table)]


def sampling_part(found: dict[str, Any]) -> list[str]:
    ratio, theta = found["throughput_ratio"], found["theta"]
    text = (
        f"{found['images']} images of {found['checkpoint']} in {found['steps']} Heun steps ({found['evaluations']}"
        f" evaluations) on {found['machine']['device']}, {found['machine']['threads']} threads: {ratio['median']:.3f} of"
        f" the throughput of diffusers' `FlowMatchHeunDiscreteScheduler` on the same network ({ratio['min']:.3f} to"
        f" {ratio['max']:.3f}). θ(s) takes {100 * theta['share']:.2f} % of an evaluation."
    )
    return [text]


if __name__ == "__main__":
    main()
