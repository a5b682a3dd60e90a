"""What it gains to keep freed memory (`dpi_core.allocator`): passes of a network in processes by turns.

`python -m benchmarks.memory [--runs 5]` prints a table and writes benchmarks/results/memory.json. Each process takes the
median of some passes and counts the pages that the system clears for one. `--part kept|given` is one process and prints JSON.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.measure import ROOT, Bench, Row

MODEL, IMAGES, PASSES = "fashion-flow-dpi", 64, 40
PARTS = ("kept", "given")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--part", choices=PARTS, help="measure one side in this process")
    options = parser.parse_args()
    if options.part is not None:
        print(json.dumps(measure(options.part == "kept")))
        return
    pairs = [tuple(in_a_process(part) for part in PARTS) for _ in range(options.runs)]
    ratios = [kept["seconds"] / given["seconds"] for kept, given in pairs]
    (kept_ms, kept_pages), (given_ms, given_pages) = (
        (1000 * statistics.median(each[side]["seconds"] for each in pairs), round(pairs[0][side]["pages"]))
        for side in range(len(PARTS))
    )
    measured = Bench("Freed memory", options.runs, "wall", "cpu")
    beside = f"{kept_ms:.0f} against {given_ms:.0f} ms; {kept_pages:,} against {given_pages:,} pages cleared a pass"
    what = f"x̂0 of {IMAGES} images, {MODEL}, bfloat16: freed memory kept / given back"
    measured.add(Row(what, ratios, bound=1.0, beside=beside))
    measured.write("memory")


def in_a_process(part: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--part", part]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    return dict(json.loads(answer.splitlines()[-1]))


def measure(keeps: bool) -> dict[str, float]:
    """Seconds of one pass, and pages cleared for it."""
    import torch

    import dpi_core
    from dpi_core.allocator import keep_freed_memory
    from dpi_core.precision import multiplying_in

    if keeps and not keep_freed_memory():
        raise SystemExit("only glibc can be told to keep freed memory.")
    denoiser = dpi_core.load(ROOT / "checkpoints" / MODEL).denoiser
    x = torch.randn(IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    seconds = []
    with torch.no_grad(), multiplying_in("bfloat16", denoiser.device):
        for _ in range(5):
            denoiser(x, 0.5)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(PASSES):
            began = time.perf_counter()
            denoiser(x, 0.5)
            seconds.append(time.perf_counter() - began)
    pages = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / PASSES
    return {"seconds": statistics.median(seconds), "pages": pages}


if __name__ == "__main__":
    main()
