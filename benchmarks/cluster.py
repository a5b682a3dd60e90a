"""How many computations a second do replicas give? `python -m benchmarks.cluster` writes benchmarks/results/cluster.json.

Starts `python -m app.serve` on this machine with one replica, then with two, and lets the sessions of `benchmarks.load`
ask an engine that has them compute; each answer is compared with one that `dpi_core` gives in a single thread. Exits
with 1 after a wrong answer or an error. Needs the extra `cluster`.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from app.services.cluster import Cluster
from app.services.inference import Engine
from benchmarks import load
from benchmarks.measure import ROOT, Row, write

PORT = 8765


def main() -> None:
    chosen = load.arguments(__doc__, seconds=60)
    references, rows, failed = load.reference_answers(), [], 0
    for replicas in (1, 2):
        seen = load.Seen()
        with serving(replicas), closing(Engine(2**20, computers=Cluster(f"ray://127.0.0.1:{PORT}"))) as engine:
            engine.best_device()
            load.run(engine, references, seen, chosen.sessions, chosen.seconds)
            rows += rows_of(seen, replicas, chosen.seconds)
        failed += len(seen.wrong + seen.errors)
        for text in (seen.wrong + seen.errors)[:10]:
            print(text, file=sys.stderr)
    for row in rows:
        print(f"{row.what}: {row.median:.4g} {row.unit}; {row.beside}")
    if not chosen.no_json:
        write("cluster", f"Cluster of one machine: {chosen.sessions} sessions, {chosen.seconds:g} s", rows)
    sys.exit(1 if failed else 0)


@contextmanager
def serving(replicas: int) -> Iterator[None]:
    """`python -m app.serve`, from when it is ready to when it has ended."""
    command = [sys.executable, "-m", "app.serve", "--replicas", str(replicas), "--port", str(PORT)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        if process.stdout is None or not any(line.startswith("Ready") for line in process.stdout):
            sys.exit(f"`{' '.join(command)}` does not start.")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def rows_of(seen: load.Seen, replicas: int, seconds: float) -> list[Row]:
    """The rows of one number of replicas."""
    of = f"{replicas} replica{'s' if replicas > 1 else ''}"
    answers = len(seen.computed_ms)
    return [
        Row(f"{of}: wrong answers and errors", [len(seen.wrong + seen.errors)], "", 0, f"{answers} computed"),
        Row(f"{of}: small computations", [answers / seconds], "a second"),
        Row(f"{of}: 95th percentile of one", load.percentiles(seen.computed_ms), "ms"),
        Row(f"{of}: memory of each", [replica_bytes() / 1e6], "MB"),
    ]


def replica_bytes() -> int:
    """Bytes in memory of the largest replica on this machine."""
    replicas = [file.parent for file in Path("/proc").glob("[0-9]*/cmdline") if b"ServeReplica" in file.read_bytes()]
    return max(int((folder / "statm").read_text().split()[1]) * 4096 for folder in replicas)


if __name__ == "__main__":
    main()
