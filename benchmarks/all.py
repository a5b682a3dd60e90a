"""Measures everything anew and writes BENCHMARKS.md: `python -m benchmarks.all`."""

import argparse
import subprocess
import sys
import time

from benchmarks.measure import ROOT

PARTS = {
    "forward": [""],
    "training": [""],
    "grouped": [""],
    "sweep": [""],
    "memory": [""],
    "joining": [""],
    "apart": [""],
    "cancel": [""],
    "waiting": [""],
    "start_up": ["--runs 5"],
    "pages": [""],
    "gpu": [""],
    "load": ["--seconds 100"],
    "visitors": ["--seconds 300", "--sessions 50 --seconds 120"],
}
"""Benchmark -> the arguments of each run. The layers' analysis, the sampling run and the cluster have commands of their own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    chosen = parser.parse_args().parts or list(PARTS)
    failed = []
    for part in chosen:
        began = time.perf_counter()
        print(f"\n# {part}", flush=True)
        commands = [[sys.executable, "-m", f"benchmarks.{part}", *arguments.split()] for arguments in PARTS[part]]
        if any([subprocess.run(command, cwd=ROOT).returncode for command in commands]):
            failed.append(part)
        print(f"# {part}: {time.perf_counter() - began:.0f} s", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.report"], cwd=ROOT, check=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
