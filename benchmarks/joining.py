"""Does it pay to compute the requests of several sessions in the same passes? `python -m benchmarks.joining [--device cuda:0]`

Ten sessions ask one model, each for x̂0 of other images at four levels or of the same images at other levels, and ask again
when they are answered. Three engines take turns: one that computes request after request, the app's, which joins what
`app.services.joining` says, and one that joins everything. Prints a table and writes benchmarks/results/joining.json.
"""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from unittest import mock

from app.records import InputKind, Inputs, Request, SweepRequest
from app.services import computer, joining, stored
from app.services.inference import Engine
from benchmarks.measure import Bench, Row, bench, options

SESSIONS, LEVELS, QUESTIONS = 10, 4, 2
"""Sessions; levels in a request; requests of each session in one measurement."""

PAYS = 1 / 1.3
"""Bound of seconds joined / one after another, where requests are joined."""

REASON = (
    "the work of other levels is not shared: passes of a sample each win by fewer calls alone, and how much a call costs"
    " differs from hour to hour on this machine."
)


@dataclass(frozen=True)
class Case:
    """What the sessions ask.

    Attributes:
        model: whom.
        kind: of inputs.
        n: samples in each request.
        differ: what differs between sessions.
        bound: of seconds joined / one after another.
    """

    model: str
    kind: InputKind
    n: int
    differ: str
    bound: float | None

    def __str__(self) -> str:
        return f"{self.model}, {self.n} sample{'s' if self.n > 1 else ''}, other {self.differ}"


CASES = (
    Case("digits-vp-dpi", "held-out", 4, "images", PAYS),
    Case("digits-vp-dpi", "held-out", 4, "levels", PAYS),
    Case("digits-vp-dpi", "held-out", 16, "images", PAYS),
    Case("digits-vp-none", "held-out", 4, "levels", PAYS),
    Case("mixture2d-flow-dpi", "held-out", 64, "images", PAYS),
    Case("fashion-flow-dpi", "digits", 1, "images", PAYS),
    Case("fashion-flow-dpi", "digits", 1, "levels", PAYS),
    Case("fashion-flow-dpi", "digits", 16, "images", None),
)

Joins = Callable[[Request, Sequence[Request], Sequence[int]], list[Request]]


def one_after_another(first: Request, waiting: Sequence[Request], shape: Sequence[int]) -> list[Request]:
    """No request is joined."""
    return []


def everything(first: Request, waiting: Sequence[Request], shape: Sequence[int]) -> list[Request]:
    """Every request is joined; all of one measurement can be."""
    return list(waiting)


ENGINES: dict[str, Joins] = {"apart": one_after_another, "joined": joining.joined, "all": everything}


@dataclass
class Seen:
    """What the sessions of one engine have seen.

    Attributes:
        seconds: of each measurement.
        waits: of all requests, in seconds.
    """

    seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    @property
    def in_words(self) -> str:
        rate, wait = SESSIONS * QUESTIONS / statistics.median(self.seconds), statistics.median(self.waits)
        return f"{rate:.1f}/s, wait {1e3 * wait:.0f} ms"


def main() -> None:
    computer.spin_briefly()
    chosen = options(__doc__).parse_args()
    found = bench(f"Joined requests of {SESSIONS} sessions", chosen)
    for case in CASES:
        found.add(row_of(case, measured(case, found)))
    found.write("joining")


def measured(case: Case, settings: Bench) -> dict[str, Seen]:
    """What each of the engines does with a case, by turns."""
    seeds, found = itertools.count(1), {name: Seen() for name in ENGINES}
    with ExitStack() as stack:
        engines = {name: stack.enter_context(closing(Engine(2**20))) for name in ENGINES}
        for run in range(-1, settings.runs):  # the first loads the model
            for name, engine in engines.items():
                with mock.patch.object(computer, "joined", ENGINES[name]):
                    seconds, waits = ask(engine, case, settings.device, seeds)
                if run >= 0:
                    found[name].seconds.append(seconds)
                    found[name].waits += waits
    return found


def ask(engine: Engine, case: Case, device: str, seeds: Iterator[int]) -> tuple[float, list[float]]:
    """Seconds until all sessions have all their answers, and those that each request took."""
    key, waits = stored.read_model(case.model).key, []
    questions = [[question(case, key, device, next(seeds)) for _ in range(QUESTIONS)] for _ in range(SESSIONS)]

    def session(number: int) -> None:
        for request in questions[number]:
            began = time.perf_counter()
            job = engine.submit(f"session {number}", request)
            job.wait()
            assert job.result is not None, job.error
            waits.append(time.perf_counter() - began)

    threads = [threading.Thread(target=session, args=(number,)) for number in range(SESSIONS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, waits


def question(case: Case, key: stored.ModelKey, device: str, seed: int) -> SweepRequest:
    """One that nobody has asked before."""
    by_seed = seed if case.differ == "images" else 0
    shift = 0.0 if case.differ == "images" else seed / 10_000
    grid = tuple(0.1 + 0.2 * level + shift for level in range(LEVELS))
    return SweepRequest(key, Inputs(case.kind, case.n, by_seed), grid, device)


def row_of(case: Case, seen: dict[str, Seen]) -> Row:
    """Seconds of the app's engine over those of the one that computes request after request."""
    ratios = [a / b for a, b in zip(seen["joined"].seconds, seen["apart"].seconds, strict=True)]
    beside = "; ".join(f"{name}: {one.in_words}" for name, one in seen.items())
    return Row(f"seconds joined / apart: {case}", ratios, bound=case.bound, beside=beside, reason=REASON)


if __name__ == "__main__":
    main()
