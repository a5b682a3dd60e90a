"""Seconds of what a person waits for: a sweep, cold and cached, and the import of dpi_core.

`python -m benchmarks.sweep [--model fashion-flow-dpi]` prints the rows and writes benchmarks/results/sweep.json.
"""

import subprocess
import sys
from contextlib import closing

import numpy as np
import torch

import dpi_core
from app.records import Inputs, SweepRequest
from app.services import stored
from app.services.inference import Engine
from benchmarks.measure import CLOCKS, ROOT, Bench, Row, bench, options
from dpi_core.analysis.denoising import denoise_at, sweep

POINTS, IMAGES = 64, 16
BOUNDS = {"cold": 3.0, "cached": 0.05, "import": 0.3}

SLOW = (
    "convolutions are 90 % of it, some 190 billion multiplications in 64 forwards, and the processor makes them at its speed;"
    " θ(s) is about 1 %."
)

AFTER_TORCH = "import torch, time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
EVERYTHING = "import dpi_core; [getattr(dpi_core, name) for name in dpi_core.__all__]"


def main() -> None:
    parser = options(__doc__ or "", runs=5)
    parser.add_argument("--model", default="fashion-flow-dpi")
    chosen = parser.parse_args()
    measured = bench("Sweep and start", chosen)
    sweeps(measured, chosen.model)
    ways(measured)
    imports(measured)
    measured.write("sweep")


def sweeps(measured: Bench, name: str) -> None:
    """Through the engine, from the request to the arrays; cold means that nothing but torch is there."""
    key = stored.read_model(name).key
    grid = tuple(np.linspace(0, 1, POINTS).tolist())
    cold, cached = [], []
    for _ in range(measured.runs):
        with closing(Engine()) as engine:
            engine.best_device()
            request = SweepRequest(key, Inputs("photos", IMAGES, 0), grid, measured.device)
            for found in (cold, cached):
                began = CLOCKS[measured.clock]()
                job = engine.submit("benchmark", request)
                job.wait()
                found.append(CLOCKS[measured.clock]() - began)
                assert job.status == "done", job.error
    what = f"{POINTS}-point sweep of {IMAGES} images 28×28, {name}"
    measured.add(Row(f"{what}, cold", cold, "s", BOUNDS["cold"], "the model is loaded in it", SLOW))
    measured.add(Row(f"{what}, cached", cached, "s", BOUNDS["cached"]))


def ways(measured: Bench) -> None:
    """Several levels in a pass and passes side by side, against a pass for each level: what sweeping few samples costs."""
    grid = np.linspace(0, 1, POINTS).tolist()
    for name, n in (("digits-vp-dpi", 1), ("digits-vp-dpi", 16), ("fashion-flow-dpi", 1), ("fashion-flow-dpi", IMAGES)):
        model = dpi_core.load(ROOT / "checkpoints" / name, measured.device)
        x0, eps = torch.randn(2, n, *model.recipe.shape, generator=torch.Generator().manual_seed(0))
        measured.compare(
            f"{POINTS}-point sweep / a pass for each level, {name}, {n} image{'s' * (n > 1)}",
            lambda model=model, x0=x0, eps=eps: list(sweep(model.denoiser, x0, eps, grid)),
            lambda model=model, x0=x0, eps=eps: [denoise_at(model.denoiser, x0, eps, [s] * len(x0)) for s in grid],
        )


def imports(measured: Bench) -> None:
    """Beyond torch's own import, in fresh interpreters."""
    for what, statement in (("import dpi_core", "import dpi_core"), ("all public names of dpi_core", EVERYTHING)):
        found = [own_seconds(statement) for _ in range(measured.runs)]
        measured.add(
            Row(f"{what}, beyond torch's import", found, "s", BOUNDS["import"] if "import" in what[:6] else None)
        )


def own_seconds(statement: str) -> float:
    """Seconds of a statement after torch was imported."""
    command = [sys.executable, "-c", AFTER_TORCH.format(statement)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


if __name__ == "__main__":
    main()
