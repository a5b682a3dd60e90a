"""How long does a visitor wait beside another one's long request? `python -m benchmarks.apart [--device cuda:0]`

One session asks for planes of noise level and λ, one after another; meanwhile another asks for a sweep. Two engines take
turns, each also without the first session: the app's, which computes long requests apart from the others, and one that
computes one request at a time. Prints a table and writes benchmarks/results/apart.json.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

from app.records import Inputs, PadRequest, Request, SweepRequest
from app.services import stored
from app.services.computer import ThisMachine
from app.services.inference import Engine
from app.views.denoise import PAD_GRID, PAD_POINTS, SHOWN_IMAGES, SWEEP_GRID
from benchmarks.measure import Row, bench, options

SWEPT, PLANE = "digits-vp-none", "mixture2d-mlp-dpi"
LATER = 0.3
"""Seconds from the question for the plane to that for the sweep."""


class OneAtATime(ThisMachine):
    """This machine with one worker for each device."""

    def computes_apart(self, device: str) -> bool:
        """No."""
        return False


def main() -> None:
    chosen = options(__doc__, runs=7).parse_args()
    found, seeds = bench("A sweep beside another visitor's plane", chosen), itertools.count()
    kinds = {"apart": ThisMachine(), "one at a time": OneAtATime()}
    alone: dict[str, list[float]] = {kind: [] for kind in kinds}
    beside: dict[str, list[float]] = {kind: [] for kind in kinds}
    planes: dict[str, list[float]] = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        engines = {kind: stack.enter_context(closing(Engine(2**20, computers=kinds[kind]))) for kind in kinds}
        for run in range(-1, found.runs):  # the first loads the models
            for kind, engine in engines.items():
                quiet = answered(engine, "reader", sweep(seeds, found.device))
                busy, plane = together(engine, seeds, found.device)
                if run >= 0:
                    alone[kind].append(quiet)
                    beside[kind].append(busy)
                    planes[kind].append(plane)
    for kind in kinds:
        ratios = [a / b for a, b in zip(beside[kind], alone[kind], strict=True)]
        found.add(Row(f"{kind}: a sweep beside a plane / alone", ratios))
    for what, of in (("sweep alone", alone), ("sweep beside a plane", beside), ("plane beside a sweep", planes)):
        for kind in kinds:
            found.add(Row(f"{kind}: {what}", of[kind], "s"))
    found.write("apart")


def together(engine: Engine, seeds: Iterator[int], device: str) -> tuple[float, float]:
    """Seconds of a sweep that is asked for while a plane is computed, and of the plane."""
    plane = PadRequest(
        stored.read_model(PLANE).key,
        Inputs("held-out", PAD_POINTS, next(seeds)),
        PAD_POINTS,
        PAD_GRID,
        PAD_GRID,
        device,
    )
    began, job = time.perf_counter(), engine.submit("somebody", plane)
    time.sleep(LATER)
    waited = answered(engine, "reader", sweep(seeds, device))
    job.wait()
    assert job.result is not None, job.error
    return waited, time.perf_counter() - began


def answered(engine: Engine, session: str, request: Request) -> float:
    """Seconds until a request is answered."""
    began = time.perf_counter()
    job = engine.submit(session, request)
    job.wait()
    assert job.result is not None, job.error
    return time.perf_counter() - began


def sweep(seeds: Iterator[int], device: str) -> SweepRequest:
    """One that nobody has asked before."""
    return SweepRequest(stored.read_model(SWEPT).key, Inputs("held-out", SHOWN_IMAGES, next(seeds)), SWEEP_GRID, device)


if __name__ == "__main__":
    main()
