"""`python -m fuzzing [TARGET …] [--cases N] [--engine hypothesis|atheris] [--seed N]`: the long run."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

CASES = 100_000
NAMES = ("config", "weights", "folder", "state_dict", "image", "link", "address", "page")


def main() -> None:
    """Runs the targets one after another; a case that fails ends the run with what it was."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--cases", type=int, default=CASES, help="over all targets (default: %(default)s)")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"there is no target {unknown.pop()!r}; choose of {', '.join(NAMES)}.")
    chosen = options.targets or list(NAMES)
    if options.engine == "atheris" and len(chosen) > 1:
        _each_in_a_process(chosen, options)  # libFuzzer ends the process that it runs in
    elif options.engine == "atheris":
        _by_atheris(chosen[0], options.cases, options.seed)
    else:
        _by_hypothesis(chosen, options.cases, options.seed)


def _by_hypothesis(names: list[str], cases: int, seed: int) -> None:
    from fuzzing.targets import targets

    chosen = [targets()[name] for name in names]
    for target in chosen:
        began = time.monotonic()
        target.run(round(cases * target.share / sum(each.share for each in chosen)), seed)
        print(
            f"{target.name}: {target.tried} cases, {target.refused} refused, slowest {target.slowest:.2f} s of CPU,"
            f" {time.monotonic() - began:.0f} s",
            flush=True,
        )


def _each_in_a_process(names: list[str], options: argparse.Namespace) -> None:
    for name in names:
        each = ["--cases", str(options.cases // len(names)), "--seed", str(options.seed)]
        subprocess.run([sys.executable, "-m", "fuzzing", name, "--engine", "atheris", *each], check=True)


def _by_atheris(name: str, cases: int, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["app", "dpi_core", "safetensors", "PIL"]):
        from fuzzing.targets import targets
    target = targets()[name]
    # An interpreter's first calls are slow, and torch's memory is no leak.
    limits = ["-timeout=20", "-rss_limit_mb=6000", "-detect_leaks=0"]
    atheris.Setup([sys.argv[0], f"-runs={cases}", f"-seed={seed + 1}", "-max_len=8192", *limits], target.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
