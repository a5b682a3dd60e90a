"""Measures everything anew and writes BENCHMARKS.md: `python -m benchmarks.all`, about 15 minutes on two quiet cores."""

import argparse
import subprocess
import sys
import time

from benchmarks.measure import ROOT

PARTS = {
    "forward": [],
    "training": [],
    "sweep": [],
    "memory": [],
    "joining": ["--runs", "3"],
    "waiting": [],
    "start_up": ["--runs", "3"],
    "gpu": [],
    "load": ["--seconds", "300"],
}
"""Benchmark -> its arguments. The layers' analysis and the sampling run take longer, so they have commands of their own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    chosen = parser.parse_args().parts or list(PARTS)
    failed = []
    for part in chosen:
        began = time.perf_counter()
        print(f"\n# {part}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *PARTS[part]], cwd=ROOT).returncode:
            failed.append(part)
        print(f"# {part}: {time.perf_counter() - began:.0f} s", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.report"], cwd=ROOT, check=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
