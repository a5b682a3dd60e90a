"""Seconds and memory of the analyses as a person waits for them in the app, each part in a process of its own.

`python -m benchmarks.analysis [--model fashion-flow-dpi] [--data PATH] [--threads 2] [--runs 5]` prints a table and writes
benchmarks/results/analysis.json; a run of all parts takes some five minutes. PATH is the folder of the model's data set;
without it, data that are not bundled are replaced by the model's own samples, which takes the same time. `--part NAME`
measures one part and prints JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Row, write

BOUNDS = {"landscape": 120.0, "outputs and CKA": None, "pinning": 120.0, "order": None, "attribution": 30.0}
"""Seconds on two cores. The landscape is 33 × 33 on 64 images, pinning every layer at 9 levels; attribution is integrated
gradients, their cross-check and the derivatives."""

MEMORY_BOUND_GB = 2.0

SLOWER = "this machine computes the same passes up to a third slower from one hour to the next (`python -m benchmarks.memory`)"
REASONS = {
    "landscape": "nearly all of it is the network itself, 1,089 passes of 64 images, most of that convolutions;"
    f" {SLOWER}",
    "attribution": f"nearly all of it is the network and its gradients; {SLOWER}",
}
"""Why a part takes longer than it may on the machine whose results are kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fashion-flow-dpi")
    parser.add_argument("--data", type=Path, help="folder of the model's data set; its own samples without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5, help="of every part")
    parser.add_argument("--part", choices=list(BOUNDS), help="measure one part in this process")
    options = parser.parse_args()
    if options.part is not None:
        print(json.dumps(measure(options)))
        return
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in BOUNDS}
    for part in list(BOUNDS) * options.runs:
        command = [sys.executable, "-m", "benchmarks.analysis", *sys.argv[1:], "--part", part]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        found[part].append(json.loads(answer.splitlines()[-1]))
        print(f"{part}: {found[part][-1]['seconds']:.1f} s", file=sys.stderr)
    report(found, options)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One part, with the settings of the app."""
    import torch

    import dpi_core
    from dpi_core.allocator import keep_freed_memory
    from dpi_core.reports import hardware

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    model = dpi_core.load(ROOT / "checkpoints" / options.model)
    x0, origin = samples(model, options.data)
    run = PARTS[options.part](model, x0, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)))
    began, cpu = time.perf_counter(), time.process_time()
    run()
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "load": os.getloadavg()[0],
        "samples": origin,
        "processor": hardware("cpu"),
    }


def samples(model: Any, folder: Path | None) -> tuple[Any, str]:
    """As many as the app judges on, and what they are."""
    from dpi_core.data import FOLDER_KINDS, load_data

    count = 64 if len(model.recipe.shape) == 3 else 2048
    if folder is None and model.recipe.data.kind in FOLDER_KINDS:
        return model.sample(count, steps=4, seed=0).x.float().clamp(-1, 1), f"{count} of the model's own samples"
    return load_data(model.recipe.data, folder).held_out_batch(count, 0), f"{count} held-out samples"


def landscape_part(model: Any, x0: Any, eps: Any) -> Callable[[], object]:
    import numpy as np
    import torch

    from dpi_core.analysis.landscape import curve_errors, landscape, measure_of, plane_errors

    grid = np.linspace(0, 1, 33).tolist()
    lam = model.net.lam(torch.tensor(grid, dtype=torch.float64)).detach().numpy()
    options: dict[str, Any] = {"precision": "bfloat16"}

    def run() -> object:
        cells = list(plane_errors(model.denoiser, x0, eps, grid, grid, **options))
        own = curve_errors(model.denoiser, x0, eps, grid, **options)
        return landscape(cells, lam, own, measure_of(x0))

    return run


def outputs_part(model: Any, x0: Any, eps: Any) -> Callable[[], object]:
    from dpi_core.analysis.activations import layer_activations
    from dpi_core.layer_report import LEVELS

    n = parts(x0).cka
    return lambda: list(layer_activations(model.denoiser, x0[:n], eps[:n], LEVELS))


def pinning_part(model: Any, x0: Any, eps: Any) -> Callable[[], object]:
    from dpi_core.analysis.pinning import pinned_errors, pinning
    from dpi_core.layer_report import LEVELS

    n = parts(x0).pinned
    return lambda: pinning(model.denoiser, list(pinned_errors(model.denoiser, x0[:n], eps[:n], LEVELS)), LEVELS)


def order_part(model: Any, x0: Any, eps: Any) -> Callable[[], object]:
    from dpi_core.analysis.pinning import holding_order
    from dpi_core.layer_report import CANDIDATES, HOLDING_STEPS

    n, single = parts(x0).pinned, pinning_part(model, x0, eps)()
    return lambda: list(holding_order(model.denoiser, x0[:n], eps[:n], single, CANDIDATES, HOLDING_STEPS))


def attribution_part(model: Any, x0: Any, eps: Any) -> Callable[[], object]:
    from dpi_core.analysis.attribution import layer_tangents, quality_target, shares
    from dpi_core.analysis.landscape import measure_of
    from dpi_core.layer_report import INTEGRATION_STEPS, LEVELS, PERMUTATIONS, SPARING_LEVELS

    many = parts(x0)
    few, fewer = ((x0[:n], eps[:n]) for n in (many.attribution, many.derivative))
    target = quality_target(measure_of(x0))

    def run() -> None:
        list(shares(model.denoiser, *few, LEVELS, target, ["integrated gradients"], INTEGRATION_STEPS))
        list(shares(model.denoiser, *few, SPARING_LEVELS, target, ["shapley"], permutations=PERMUTATIONS))
        list(layer_tangents(model.denoiser, *fewer, SPARING_LEVELS, measure_of(x0)))

    return run


def parts(x0: Any) -> Any:
    """How many samples each part looks at."""
    from dpi_core.layer_report import IMAGES, POINTS

    return IMAGES if x0.ndim == 4 else POINTS


PARTS = {
    "landscape": landscape_part,
    "outputs and CKA": outputs_part,
    "pinning": pinning_part,
    "order": order_part,
    "attribution": attribution_part,
}
"""What is measured: given a model, clean samples and their noise, a call."""


def report(found: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    rows = []
    for part, runs in found.items():
        cpu_seconds, load = (statistics.median(run[key] for run in runs) for key in ("cpu_seconds", "load"))
        beside = f"{cpu_seconds:.1f} CPU s, load {load:.1f}"
        rows.append(Row(part, [run["seconds"] for run in runs], "s", BOUNDS[part], beside, REASONS.get(part, "")))
        rows.append(Row(f"{part}: peak memory", [run["peak_gb"] for run in runs], "GB", MEMORY_BOUND_GB))
    for row in rows:
        bound = "" if row.bound is None else f", bound {row.bound:g}"
        print(f"{row.what}: {row.median:.2f} {row.unit}{bound}; {row.beside}")
    write("analysis", f"Analyses, {options.model}", rows, {"threads": options.threads})


if __name__ == "__main__":
    main()
