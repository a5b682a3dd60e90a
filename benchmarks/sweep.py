"""Seconds of what a person waits for: a sweep, cold and cached, and the import of dpi_core.

`python -m benchmarks.sweep [--model fashion-flow-dpi]` prints the rows and writes benchmarks/results/sweep.json.
"""

import subprocess
import sys
from contextlib import closing

import numpy as np
import torch

from app.records import Inputs, SweepRequest
from app.services import stored
from app.services.inference import Engine
from benchmarks.measure import CLOCKS, ROOT, Bench, Row, bench, options
from benchmarks.networks import SMALL, dpi, inputs

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


@torch.no_grad()
def ways(measured: Bench) -> None:
    """Grouped by s against pairs of s and image in one pass: what `dpi_core.analysis.denoising.sweep` should do."""
    net, x = dpi(SMALL, measured.device).eval(), inputs(SMALL, IMAGES, measured.device)
    grid = torch.linspace(0, 1, 8, dtype=torch.float64)
    images, scalars = x.repeat(len(grid), 1, 1, 1), grid.repeat_interleave(len(x))
    measured.compare(
        f"sweep of {IMAGES} images grouped by s / {len(grid)} s at once, {SMALL}",
        lambda: [net(x, s) for s in grid],
        lambda: net(images, scalars),
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
