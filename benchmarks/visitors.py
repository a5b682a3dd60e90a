"""Visitors of a running app for a while, over Streamlit's own protocol: is every picture right, and how long does it take?

`python -m benchmarks.visitors [--sessions 10] [--seconds 300]` starts the app, lets each session do what a browser does, prints
the rows and writes benchmarks/results/visitors.json; it exits with 1 after a wrong answer or an error. A session opens the
Denoise page, chooses a model, inputs and a seed, waits until the page is complete, looks at it for a moment, and chooses
again: stored frames, a seed that was asked for before, or a new one. An answer is the frames as they reach the browser, and
it is timed until they are there; what follows them (for DPI the plane of noise level and λ) is waited for. Afterwards
`dpi_core` computes a few frames of each answer in a single thread, and they have to agree. The server keeps few results,
so that its memory is that of its work.
"""

import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from app.services import stored
from app.views.denoise import SHOWN_IMAGES, SHOWN_POINTS, SWEEP_GRID, SWEEP_LABEL
from benchmarks.load import BOUNDS, Memory, Shift, arguments, growth_of, percentiles, together
from benchmarks.measure import Row, write
from benchmarks.start_up import serving

MODELS = ("digits-vp-none", "mixture2d-mlp-none", "mixture2d-mlp-dpi")
COMPARED = (3, 30, 50, 75, 97)
"""Frames of each answer that are compared, of 101 along s."""

LOOKING = 3.0
"""Seconds for which a visitor looks at an answer."""

NEW, AGAIN = 0.1, 0.45
"""Share of questions that ask for a new seed, and for one that was answered lately; the others ask for stored frames."""

LATELY = 8
"""So many answers back a result is certainly still kept."""

BEFORE = 40
"""Questions that are asked before the clock starts: the server is warm then, and its caches are full."""

PATIENCE = 120.0
CACHE_BYTES = 32 * 2**20
"""What the server keeps of results."""

FINISHED = ForwardMsg.ScriptFinishedStatus.FINISHED_SUCCESSFULLY


class Question(NamedTuple):
    """What a visitor chooses; seed None are the stored frames."""

    model: str
    seed: int | None


@dataclass
class Seen:
    """What all visitors together have seen."""

    milliseconds: dict[Literal["cached", "small"], list[float]] = field(
        default_factory=lambda: {"cached": [], "small": []}
    )
    answers: dict[Question, list[np.ndarray]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Visitor:
    """One browser tab: the protocol without the drawing."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.widgets: dict[str, str] = {}
        self.frames: bytes = b""
        self.seconds = 0.0
        self.page = ""

    def ask(self, question: Question) -> bytes:
        """Chooses, and waits until the page is complete; `seconds` is then how long the frames took.

        Returns:
            The frames, as `app.components.scrubber.pack` made them.

        Raises:
            RuntimeError: the page says that something is wrong.
            TimeoutError: it does not become complete.
        """
        self._rerun(question)
        began, waits, frames_wait, self.seconds = time.monotonic(), False, False, 0.0
        deadline = began + PATIENCE
        poll: tuple[float, str, float] | None = None  # when, which fragment, how often
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no complete page within {PATIENCE:g} s: {question}")
            message = self._receive(0.05 if poll is None else max(0.0, poll[0] - time.monotonic()))
            if message is None:
                if poll is not None and time.monotonic() >= poll[0]:
                    self._rerun(question, fragment=poll[1])
                    poll = (time.monotonic() + poll[2], poll[1], poll[2])
                continue
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.page = message.new_session.page_script_hash
            if kind == "navigation":  # the whole page is drawn anew, not a part of it
                waits, frames_wait, poll = False, False, None
            elif kind == "auto_rerun":
                interval = message.auto_rerun.interval
                waits, poll = True, (time.monotonic() + interval, message.auto_rerun.fragment_id, interval)
            elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
                element = message.delta.new_element
                self._take(element)
                if element.progress.text.startswith(
                    SWEEP_LABEL
                ):  # the frames on show are not yet those that were asked for
                    frames_wait = True
                elif element.bidi_component.id.endswith("sweep") and not (frames_wait or self.seconds):
                    self.seconds = time.monotonic() - began
            elif kind == "script_finished" and message.script_finished == FINISHED and not waits:
                return self.frames

    def _rerun(self, question: Question, fragment: str = "") -> None:
        """The page, or a part of it, with the widgets as chosen; a first visit has none yet and comes by the link."""
        message = BackMsg()
        client = message.rerun_script
        inputs = "Stored" if question.seed is None else "Held-out"
        client.query_string = f"model={question.model}&inputs={inputs}&seed={question.seed or 0}"
        client.page_script_hash, client.fragment_id, client.is_auto_rerun = self.page, fragment, bool(fragment)
        if self.widgets:
            states = client.widget_states.widgets
            states.add(id=self.widgets["Model"], string_value=question.model)
            states.add(id=self.widgets["Seed"], int_value=question.seed or 0)
            states.add(id=self.widgets["Inputs"]).string_array_value.data.append(inputs)
        self.socket.send(message.SerializeToString())

    def _receive(self, timeout: float) -> ForwardMsg | None:
        try:
            content = self.socket.recv(timeout=timeout)
        except TimeoutError:
            return None
        message = ForwardMsg()
        message.ParseFromString(content)
        return message

    def _take(self, element: Any) -> None:
        kind = element.WhichOneof("type")
        if kind in ("selectbox", "number_input", "button_group"):
            widget = getattr(element, kind)
            self.widgets[widget.label] = widget.id
        elif kind == "bidi_component" and element.bidi_component.id.endswith("sweep"):
            self.frames = element.bidi_component.bytes
        elif kind == "exception":
            raise RuntimeError(f"the page shows {element.exception.type}: {element.exception.message}")
        elif kind == "alert":
            raise RuntimeError(f"the page says: {element.alert.body}")


@contextmanager
def opened(address: str) -> Iterator[Visitor]:
    """A tab of its own."""
    with connect(address, subprotocols=["streamlit"], max_size=None, close_timeout=1) as socket:  # type: ignore[list-item]
        yield Visitor(socket)


def main() -> None:
    chosen = arguments(__doc__)
    seen = Seen()
    with serving("app/main.py", DPI_CACHE_BYTES=str(CACHE_BYTES)) as server:
        run(server.url, server.pid, seen, chosen.sessions, chosen.seconds)
    wrong = list(wrong_answers(seen.answers))
    rows = rows_of(seen, wrong, chosen.sessions, chosen.seconds)
    for row in rows:
        bound = "" if row.bound is None else f", bound {row.bound:g}"
        print(f"{row.what}: {row.median:.4g} {row.unit}{bound}; {row.beside}")
    for text in (wrong + seen.errors)[:10]:
        print(text, file=sys.stderr)
    if not chosen.no_json:
        name = "visitors" if chosen.sessions == 10 else f"visitors_{chosen.sessions}"
        title = f"Visitors of the app: {chosen.sessions} sessions, {chosen.seconds:g} s"
        write(name, title, rows, {"sessions": chosen.sessions}, command=f"visitors --sessions {chosen.sessions}")
    sys.exit(1 if wrong or seen.errors else 0)


def run(url: str, pid: int, seen: Seen, sessions: int, seconds: float, before: int = BEFORE) -> None:
    """Lets the sessions ask until the time is over."""
    address, new_seeds = f"{url.replace('http', 'ws', 1)}/_stcore/stream", itertools.count(1)
    with opened(address) as first:
        for _, model in zip(range(before), itertools.cycle(MODELS), strict=False):
            first.ask(Question(model, next(new_seeds)))
    seen.memory = together(lambda number, shift: visit(address, seen, number, new_seeds, shift), sessions, seconds, pid)


def visit(address: str, seen: Seen, number: int, new_seeds: Iterator[int], shift: Shift) -> None:
    """One session from its first page to the end of the time."""
    draw = random.Random(number)
    with opened(address) as visitor:
        while shift.goes_on():
            time.sleep(LOOKING * (0.5 + draw.random()))
            question, is_new = choose(draw, seen, new_seeds)
            try:
                frames = visitor.ask(question)
            except Exception as error:  # whatever it is, it is noted and fails the run
                seen.errors.append(f"{question}: {error}")
                return
            with seen.lock:
                kind: Literal["cached", "small"] = "small" if is_new else "cached"
                seen.milliseconds[kind].append(1000 * visitor.seconds)
                seen.answers.setdefault(question, []).append(x0_hat_of(frames))


def choose(draw: random.Random, seen: Seen, new_seeds: Iterator[int]) -> tuple[Question, bool]:
    """The next question, and whether its answer has to be computed."""
    model, lot = draw.choice(MODELS), draw.random()
    if lot < NEW:
        with seen.lock:
            return Question(model, next(new_seeds)), True
    with seen.lock:
        known = [question for question in seen.answers if question.seed is not None] if lot < NEW + AGAIN else []
        known = known[-LATELY:]
    return (draw.choice(known), False) if known else (Question(model, None), False)


def x0_hat_of(frames: bytes) -> np.ndarray:
    """The compared frames of x̂0 in their own unit, decoded as the browser does; (k, n, ...) with channels last."""
    length = int.from_bytes(frames[:4], "little")
    header = json.loads(frames[4 : 4 + length])
    spec = next(spec for spec in header["arrays"] if spec["name"] == "x0_hat")
    count, start = int(np.prod(spec["shape"])), 4 + length + spec["offset"]
    values = np.frombuffer(frames, np.dtype(spec["dtype"]).newbyteorder("<"), count, start).reshape(spec["shape"])
    return values[list(COMPARED)].astype(np.float64) * spec["scale"] + spec["zero"]


def wrong_answers(answers: dict[Question, list[np.ndarray]]) -> Iterator[str]:
    """A sentence for every answer that is not what one thread computes, beyond the rounding of what travels."""
    for question, found in answers.items():
        expected = reference(question)
        for x0_hat in found:
            off = np.abs(x0_hat - expected).max() if x0_hat.shape == expected.shape else np.inf
            if not off <= step_of(question.model, expected) + 1e-4 * np.abs(expected).max():
                yield f"{question}: off by {off:.3g}"


def step_of(model: str, expected: np.ndarray) -> float:
    """Half a step of what travels: bytes over [-1, 1], or 16 bits over the largest coordinate of all frames."""
    return 1 / 255 if stored.read_model(model).is_image else 2 * float(np.abs(expected).max()) / 32767


def reference(question: Question) -> np.ndarray:
    """The compared frames, by `dpi_core` in this thread; images are clipped to [-1, 1], as they are shown."""
    import torch

    import dpi_core
    from dpi_core.data import load_data
    from dpi_core.seeds import seeded_generator

    kept = stored.read_model(question.model)
    model, seed = dpi_core.load(kept.key.folder), question.seed or 0
    x0 = load_data(model.recipe.data).held_out_batch(SHOWN_IMAGES if kept.is_image else SHOWN_POINTS, seed)
    eps = torch.randn(x0.shape, generator=seeded_generator(seed))
    levels = [SWEEP_GRID[k] for k in COMPARED]
    x0_hat = torch.stack([model.denoise(model.process.add_noise(x0, eps, s), s) for s in levels]).double().numpy()
    return np.moveaxis(x0_hat, 2, -1).clip(-1, 1) if kept.is_image else x0_hat


def rows_of(seen: Seen, wrong: list[str], sessions: int, seconds: float) -> list[Row]:
    """The table's rows; the bounds of time are those of ten sessions."""
    cached, small = seen.milliseconds["cached"], seen.milliseconds["small"]
    bounds = BOUNDS if sessions == 10 else {}
    compared = f"{len(cached) + len(small)} answers, {len(COMPARED)} frames of each compared"
    computed = f"{len(small)} answers, {len(small) / seconds:.2f} a second, 101 frames of 16 images or 512 points"
    return [
        Row("wrong answers", [len(wrong)], "", 0, compared),
        Row("errors", [len(seen.errors)], "", 0),
        Row(
            "95th percentile of a cached view",
            percentiles(cached),
            "ms",
            bounds.get("cached"),
            f"{len(cached)} answers",
        ),
        Row(
            "95th percentile of a small computation",
            percentiles(small),
            "ms",
            bounds.get("small"),
            computed,
        ),
        growth_of(seen.memory, bounds.get("growth")),
    ]


if __name__ == "__main__":
    main()
