"""Seconds and memory of the layers' analysis as a person waits for it, each part in a process of its own.

`python -m benchmarks.analysis [--model fashion-flow-dpi] [--threads 2]` prints a table and writes
benchmarks/results/analysis.json. Held-out data that are not bundled are replaced by the model's own samples.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

from benchmarks.measure import ROOT, Row, write

BOUNDS = {"outputs and CKA": None, "pinning": 120.0, "order": None, "attribution": 30.0}
"""Seconds; attribution is integrated gradients, their cross-check and the derivatives."""

MEMORY_BOUND = 2 * 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fashion-flow-dpi")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=list(BOUNDS), help="measure one part in this process")
    options = parser.parse_args()
    if options.part is not None:
        print(json.dumps(measure(options.model, options.part, options.threads)))
        return
    found = {}
    for part in BOUNDS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.analysis",
            "--model",
            options.model,
            "--threads",
            str(options.threads),
            "--part",
            part,
        ]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        found[part] = json.loads(answer.splitlines()[-1])
    report(found, options.model, options.threads)


def measure(name: str, part: str, threads: int) -> dict[str, float]:
    import torch

    import dpi_core
    from dpi_core import layer_report
    from dpi_core.analysis.activations import layer_activations
    from dpi_core.analysis.attribution import layer_tangents, quality_target, shares
    from dpi_core.analysis.pinning import holding_order, pinned_errors, pinning

    torch.set_num_threads(threads)
    model = dpi_core.load(ROOT / "checkpoints" / name)
    x0 = model.sample(layer_report.IMAGES.cka, steps=4, seed=0).x.float()
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    many = layer_report.IMAGES if x0.ndim == 4 else layer_report.POINTS
    levels, costly = layer_report.LEVELS, layer_report.SPARING_LEVELS
    denoiser, steps = model.denoiser, {"steps": layer_report.INTEGRATION_STEPS}
    few, fewer, judged = ((x0[:n], eps[:n]) for n in (many.attribution, many.derivative, many.pinned))
    options = {"target": quality_target("psnr" if x0.ndim == 4 else "mse")}
    single = None
    if part == "order":
        single = pinning(denoiser, list(pinned_errors(denoiser, *judged, levels)), levels)
    began, cpu = time.perf_counter(), time.process_time()
    if part == "outputs and CKA":
        list(layer_activations(denoiser, x0, eps, levels))
    elif part == "pinning":
        pinning(denoiser, list(pinned_errors(denoiser, *judged, levels)), levels)
    elif part == "order":
        list(holding_order(denoiser, *judged, single, layer_report.CANDIDATES, layer_report.HOLDING_STEPS))
    else:
        list(shares(denoiser, *few, levels, methods=["integrated gradients"], **steps, **options))
        list(shares(denoiser, *few, costly, methods=["shapley"], **options))
        list(layer_tangents(denoiser, *fewer, costly))
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "load": os.getloadavg()[0],
    }


def report(found: dict[str, dict[str, float]], model: str, threads: int) -> None:
    rows = []
    for part, row in found.items():
        beside = f"{row['cpu_seconds']:.1f} CPU s, load {row['load']:.1f}"
        rows.append(Row(part, [row["seconds"]], "s", BOUNDS[part], beside))
        rows.append(Row(f"{part}: peak memory", [row["peak_bytes"] / 2**30], "GiB", MEMORY_BOUND / 2**30))
    for row in rows:
        print(
            f"{row.what}: {row.median:.2f} {row.unit}{'' if row.bound is None else f', bound {row.bound:g}'}; {row.beside}"
        )
    write("analysis", f"Analysis of the layers, {model}", rows, {"threads": threads})


if __name__ == "__main__":
    main()
