"""How long does a computation go on that nobody waits for? `python -m benchmarks.cancel [--device cuda:0]`

Each kind of request is asked for as a page asks it, and cancelled at moments that are spread over the time it takes, or over
the first seconds of that. Counts the seconds from Cancel until its thread is free. Prints a table and writes
benchmarks/results/cancel.json.
"""

import random
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from app.figures.quality import QUALITY_RUNS, STOCHASTIC_RUNS
from app.records import (
    ComparisonRequest,
    CurvesRequest,
    Inputs,
    LayerDetailRequest,
    LayersRequest,
    PadRequest,
    ParametersRequest,
    PlaneRequest,
    QualityRequest,
    ReceptiveFieldRequest,
    Request,
    SweepRequest,
    TrajectoryRequest,
    ViewsRequest,
)
from app.services import stored
from app.services.inference import Engine
from app.services.jobs import Job
from app.views import compare, denoise, layers, trajectories
from benchmarks.measure import Row, bench, options

DIGITS, BLIND, FASHION, POINTS = "digits-vp-dpi", "digits-vp-none", "fashion-flow-dpi", "mixture2d-mlp-dpi"
BOUND = 0.5
"""Seconds."""

LONGEST = 4.0
"""Seconds after which a computation is cancelled at the latest."""

PATIENCE = 120
SEED = 0


def main() -> None:
    chosen = options(__doc__).parse_args()
    found, draw = bench("From Cancel until nothing is computed any more", chosen), random.Random(SEED)
    with closing(Engine(1)) as engine:  # which keeps no result
        for kind, request in asked(found.device):
            whole = lasts(engine, request)
            after, stopped = [], 0
            for run in range(found.runs):
                moment = whole * (run + draw.random()) / found.runs
                seconds, is_stopped = cancelled(engine, another(request, run), moment)
                after.append(seconds)
                stopped += is_stopped
            beside = f"cancelled within {whole:.1f} s of the question; {stopped} of {found.runs} were still computed"
            found.add(Row(f"until it has stopped: {kind}", after, "s", BOUND, beside))
    found.write("cancel")


def asked(device: str) -> Iterator[tuple[str, Request]]:
    """Every kind of request as the pages ask it: of the digits, or of larger images where those take longest."""
    digits, blind, fashion, points = (stored.read_model(name).key for name in (DIGITS, BLIND, FASHION, POINTS))
    few, many = Inputs("digits", denoise.SHOWN_IMAGES, SEED), Inputs("digits", layers.JUDGED_IMAGES, SEED)
    some_points = Inputs("held-out", denoise.PAD_POINTS, SEED)
    drawn, drawn_points = Inputs("samples", 16, SEED), Inputs("samples", trajectories.QUALITY_POINTS, SEED)
    line = tuple(index / 100 for index in range(101))
    yield f"sweep, {FASHION}", SweepRequest(fashion, few, denoise.SWEEP_GRID, device)
    yield (
        f"plane, {POINTS}",
        PadRequest(points, some_points, denoise.PAD_POINTS, denoise.PAD_GRID, denoise.PAD_GRID, device),
    )
    yield (
        f"plane, {FASHION}",
        PadRequest(fashion, few, denoise.PAD_IMAGES, denoise.PAD_GRID, denoise.PAD_GRID, device),
    )
    yield f"views, {FASHION}", ViewsRequest(fashion, few, denoise.SWEEP_GRID[1:-1], device)
    yield f"curves, {FASHION}", CurvesRequest(fashion, many, (line,), device)
    yield f"parameters, {FASHION}", ParametersRequest(fashion, many, device)
    yield f"parameters, {POINTS}", ParametersRequest(points, replace(some_points, n=512), device)
    yield f"layers, {FASHION}", LayersRequest(fashion, many, device)
    yield f"a layer, {FASHION}", LayerDetailRequest(fashion, few, "head", device)
    yield f"receptive field, {FASHION}", ReceptiveFieldRequest(fashion, few, 14, 14, layers.FIELD_LEVELS, device)
    for sampler, steps in (("heun", 32), ("dopri5", 0)):
        run = TrajectoryRequest(fashion, drawn, sampler, steps, "uniform", "learned", 0.5, device)
        yield f"run by {sampler}, {FASHION}", run
    yield (
        f"plane of samples, {FASHION}",
        PlaneRequest(fashion, replace(drawn, n=trajectories.PLANE_SAMPLES), trajectories.PLANE_SAMPLER, 10, device),
    )
    yield f"quality, {POINTS}", QualityRequest(points, drawn_points, QUALITY_RUNS + STOCHASTIC_RUNS, device)
    yield f"quality, {FASHION}", QualityRequest(fashion, drawn, QUALITY_RUNS, device)
    judged = Inputs("held-out", compare.JUDGED_IMAGES, SEED)
    yield (
        f"comparison, {DIGITS}",
        ComparisonRequest(digits, (blind,), judged, compare.SHOWN_IMAGES, compare.GRID, device),
    )


def another(request: Request, number: int) -> Request:
    """The same for other inputs, so that nothing of the last time is of use."""
    return replace(request, inputs=replace(request.inputs, seed=SEED + 1 + number))


def lasts(engine: Engine, request: Request) -> float:
    """Seconds until it is answered, with its models loaded; at most `LONGEST`."""
    for _ in range(2):
        began, job = time.perf_counter(), engine.submit("me", request)
        job.wait(LONGEST)
        if not job.finished:
            stop(engine, job)
        assert job.status != "failed", job.error
    return min(LONGEST, time.perf_counter() - began)


def cancelled(engine: Engine, request: Request, moment: float) -> tuple[float, bool]:
    """Seconds from Cancel to the end of the computation, and whether it was still computed."""
    job = engine.submit("me", request)
    job.wait(moment)
    is_computed = not job.finished
    began = time.perf_counter()
    stop(engine, job)
    assert job.status in ("cancelled", "done"), job.error
    return time.perf_counter() - began, is_computed


def stop(engine: Engine, job: Job) -> None:
    """Cancels, and waits for the end."""
    engine.cancel("me", job)
    if not job.wait(PATIENCE):
        raise TimeoutError(f"{type(job.request).__name__} does not stop")


if __name__ == "__main__":
    main()
