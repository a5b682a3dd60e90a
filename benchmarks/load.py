"""Sessions against one engine for a while: is every answer right, how long does it take, does memory stay flat?

`python -m benchmarks.load [--sessions 10] [--seconds 300]` prints the rows and writes benchmarks/results/load.json; it
exits with 1 after a wrong answer or an error. A session does what a page does: it asks, looks at its job until it is
finished, and asks again, for one of several models and for scalars of its own; every third question was asked before.
Each answer is compared with one that `dpi_core` gives in a single thread, before the engine starts.
"""

import argparse
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.records import Inputs, ModelKey, SweepRequest
from app.services import stored
from app.services.computer import spin_briefly
from app.services.inference import Engine
from benchmarks.measure import Row, write
from dpi_core.allocator import GIVE_BACK_SECONDS

MODELS = ("digits-vp-dpi", "digits-vp-none", "mixture2d-flow-dpi")
LEVELS, FRAMES, SAMPLES, SEEDS = 48, 4, 4, 2
"""Scalars that are asked for, and how many in one request; samples in each; seeds of their choice and noise."""

TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
BOUNDS = {"cached": 150.0, "small": 2000.0, "growth": 5.0}
"""Milliseconds at the 95th percentile; per cent by which memory may grow after the first fifth of the run."""

PATIENCE = 120
REST_SECONDS = 2 * GIVE_BACK_SECONDS
"""A break lasts so long before memory is read: freed memory goes back to the system by then."""


PARTS = 5
"""Of a run: each has a percentile of its own, and the time after the first minute a break at the end of each."""


@dataclass
class Memory:
    """Bytes of the process: in a break after the first minute and in those that follow, the last at the end; at the most."""

    at_rest: list[int] = field(default_factory=list)
    peak: int = 0


@dataclass
class Seen:
    """What all sessions together have seen."""

    cached_ms: list[float] = field(default_factory=list)
    computed_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)


References = dict[tuple[ModelKey, int, float], np.ndarray]


def main() -> None:
    chosen = arguments(__doc__)
    references = reference_answers()
    engine, seen = Engine(cache_bytes=2**20), Seen()
    run(engine, references, seen, chosen.sessions, chosen.seconds)
    observed = engine.observe()
    engine.close()
    rows = rows_of(seen, chosen.sessions, chosen.seconds)
    for row in rows:
        print(
            f"{row.what}: {row.median:.4g} {row.unit}{'' if row.bound is None else f', bound {row.bound:g}'}; {row.beside}"
        )
    print(f"the engine at the end: {observed}")
    for text in (seen.wrong + seen.errors)[:10]:
        print(text, file=sys.stderr)
    if not chosen.no_json:
        write("load", f"Load: {chosen.sessions} sessions, {chosen.seconds:g} s", rows, {"sessions": chosen.sessions})
    sys.exit(1 if seen.wrong or seen.errors else 0)


def arguments(doc: str | None, seconds: float = 300) -> argparse.Namespace:
    """What a benchmark of sessions is told: how many, for how long, and whether the results file stays as it is."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--no-json", action="store_true", help="leave the results file as it is")
    return parser.parse_args()


def reference_answers() -> References:
    """x̂0 of every model, seed and level, (n, ...) with channels last, computed one after another in this thread."""
    spin_briefly()
    import torch

    import dpi_core
    from dpi_core.data import load_data
    from dpi_core.seeds import seeded_generator

    found: References = {}
    for name, seed in itertools.product(MODELS, range(SEEDS)):
        key = stored.read_model(name).key
        model = dpi_core.load(key.folder)
        x0 = load_data(model.recipe.data).held_out_batch(SAMPLES, seed)
        eps = torch.randn(x0.shape, generator=seeded_generator(seed))
        for s in levels():
            x0_hat = model.denoise(model.process.add_noise(x0, eps, s), s).numpy()
            found[key, seed, s] = np.moveaxis(x0_hat, 1, -1) if x0_hat.ndim == 4 else x0_hat
    return found


def levels() -> list[float]:
    """The scalars that sessions ask for."""
    return np.linspace(0, 1, LEVELS).tolist()


def run(engine: Engine, references: References, seen: Seen, sessions: int, seconds: float) -> None:
    """Lets the sessions ask until the time is over."""
    seen.memory = together(lambda number, shift: session(engine, references, seen, number, shift), sessions, seconds)


class Shift:
    """What the sessions of a run share: breaks in which nobody asks, and the end, which is that of a break."""

    def __init__(self, sessions: int) -> None:
        self.is_over = False
        self._at_work = sessions
        self._is_break = False
        self._changed = threading.Condition()

    def goes_on(self) -> bool:
        """Whether to ask once more; returns after the break if there is one."""
        with self._changed:
            self._at_work -= 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_break)
            self._at_work += 1
        return not self.is_over

    def leave(self) -> None:
        """Called by a session that has ended."""
        with self._changed:
            self._at_work -= 1
            self._changed.notify_all()

    @contextmanager
    def rest(self) -> Iterator[None]:
        """A break, from the moment at which all sessions have their answers.

        Raises:
            TimeoutError: one gets none.
        """
        try:
            with self._changed:
                self._is_break = True
                if not self._changed.wait_for(lambda: self._at_work == 0, 2 * PATIENCE):
                    raise TimeoutError("the sessions do not come to rest")
            yield
        finally:
            with self._changed:
                self._is_break = False
                self._changed.notify_all()


def together(work: Callable[[int, Shift], None], sessions: int, seconds: float, pid: int | str = "self") -> Memory:
    """Runs `work(number, shift)` of every session in a thread until the time is over; reads the memory of a process.

    Breaks are no part of the time.
    """
    began, shift, memory = time.monotonic(), Shift(sessions), Memory()

    def attend(number: int) -> None:
        try:
            work(number, shift)
        finally:
            shift.leave()

    def wait_until(second: float) -> None:
        while (left := began + second - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            memory.peak = max(memory.peak, resident(pid))

    threads = [threading.Thread(target=attend, args=(number,), daemon=True) for number in range(sessions)]
    for thread in threads:
        thread.start()
    first = min(60, seconds / 5)
    for part in range(PARTS + 1):
        wait_until(first + (seconds - first) * part / PARTS)
        with shift.rest():
            paused = time.monotonic()
            memory.at_rest.append(_resident_after_a_while(pid))
            shift.is_over = part == PARTS
            began += time.monotonic() - paused
    for thread in threads:
        thread.join()
    return memory


def _resident_after_a_while(pid: int | str) -> int:
    time.sleep(REST_SECONDS)
    return resident(pid)


def session(engine: Engine, references: References, seen: Seen, number: int, shift: Shift) -> None:
    """One visitor."""
    for request in questions(references, number):
        if not shift.goes_on():
            return
        began = time.perf_counter()
        job = engine.submit(f"session {number}", request)
        is_cached = job.finished
        if not job.wait(PATIENCE):
            seen.errors.append(f"no answer within {PATIENCE} s: {request}")
        elif job.result is None:
            seen.errors.append(f"{job.status}: {job.error}")
        else:
            milliseconds = 1e3 * (time.perf_counter() - began)
            (seen.cached_ms if is_cached else seen.computed_ms).append(milliseconds)
            compare(job.result, request, references, seen)
        time.sleep(0.02)  # a page is looked at before the next question


def compare(result: object, request: SweepRequest, references: References, seen: Seen) -> None:
    """Notes every frame that is not the single-threaded one."""
    for s, x0_hat in zip(request.s_grid, result.x0_hat, strict=True):  # type: ignore[attr-defined]
        expected = references[request.model, request.inputs.seed, s]
        if not np.allclose(x0_hat, expected, **TOLERANCE):
            seen.wrong.append(
                f"{Path(request.model.folder).name}, s = {s:.3f}: off by {abs(x0_hat - expected).max():.2g}"
            )


def questions(references: References, number: int) -> Iterator[SweepRequest]:
    """What one session asks: other models and scalars every time, a third of it twice."""
    draw, keys, last = random.Random(number), sorted({key for key, _, _ in references}, key=str), None
    while True:
        if last is None or draw.random() > 1 / 3:
            grid = tuple(sorted(draw.sample(levels(), FRAMES)))
            last = SweepRequest(draw.choice(keys), Inputs("held-out", SAMPLES, draw.randrange(SEEDS)), grid, "cpu")
        yield last


def rows_of(seen: Seen, sessions: int, seconds: float) -> list[Row]:
    """The table's rows."""
    answers = len(seen.cached_ms) + len(seen.computed_ms)
    return [
        Row("wrong answers", [len(seen.wrong)], "", 0, f"{answers} answers, {answers * FRAMES} frames compared"),
        Row("errors", [len(seen.errors)], "", 0),
        Row(
            "95th percentile of a cached answer",
            percentiles(seen.cached_ms),
            "ms",
            BOUNDS["cached"],
            f"{len(seen.cached_ms)} answers",
        ),
        Row(
            "95th percentile of a small computation",
            percentiles(seen.computed_ms),
            "ms",
            BOUNDS["small"],
            f"{len(seen.computed_ms)} answers, {len(seen.computed_ms) / seconds:.1f} a second",
        ),
        growth_of(seen.memory, BOUNDS["growth"]),
    ]


def growth_of(memory: Memory, bound: float | None) -> Row:
    """By how much memory had grown in each later break since the one after the first minute.

    What computations at hand need besides comes and goes, and is part of the peak.
    """
    sizes = ", ".join(f"{size / 1e6:.0f}" for size in memory.at_rest)
    settled, *later = memory.at_rest
    grown = [100 * (size / settled - 1) for size in later]
    beside = f"{sizes} MB in the breaks, {memory.peak / 1e6:.0f} at the peak"
    return Row("growth of memory at rest after the first minute", grown, "%", bound, beside)


def percentiles(milliseconds: list[float]) -> list[float]:
    """The 95th percentile of each part of a run, of as many answers each in the order in which they came; 0 of none at all."""
    return [float(np.percentile(part, 95)) for part in np.array_split(milliseconds or [0.0], PARTS) if len(part)]


def resident(pid: int | str = "self") -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
