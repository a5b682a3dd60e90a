"""What is asked of every case, and how hypothesis and atheris call it."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

MOST_SECONDS = 5.0
LONGEST_SENTENCE = 1500
REMEDY = re.compile(
    r"\b(has to|have to|must|but expects|but needs|but at most|did you mean|known keys are|one of|belongs to"
    r"|allowed|allow|apart|ask|bring|choose|copy|draw|free|give|import|install|leave|lower|make|mend|move|name|pass|raise|remove|rename"
    r"|restore|run|save|see|set|shrink|spell|take|try|turn|upload|use|write)\b"
)
"""Words of which a sentence that says what to do has at least one."""

CHUNK = 500
"""Cases for each seed: hypothesis remembers all of a run, which a long one would not bear."""


@dataclass
class Target:
    """One way in.

    Attributes:
        name: on the command line.
        cases: what is tried.
        attempt: takes one case; returns if it is accepted, raises if it is refused.
        share: of the cases of a run of all targets.
        megabytes: that the process may grow by in all cases together.
        tried: cases so far.
        refused: of these.
        slowest: seconds of CPU that one took.
    """

    name: str
    cases: SearchStrategy[Any]
    attempt: Callable[[Any], None]
    share: float
    megabytes: int = 300
    tried: int = 0
    refused: int = 0
    slowest: float = 0.0
    _before: int = field(default=0, repr=False)

    def __call__(self, case: Any) -> None:
        """Tries one case and checks what became of it."""
        self._before = self._before or peak_megabytes()
        began = time.process_time()
        with sentences_allowed(self._count_refused):
            self.attempt(case)
        seconds, grown = time.process_time() - began, peak_megabytes() - self._before
        self.tried += 1
        self.slowest = max(self.slowest, seconds)
        assert seconds < MOST_SECONDS, f"it took {seconds:.1f} s"
        assert grown < self.megabytes, f"the process has grown by {grown} MB"

    def _count_refused(self) -> None:
        self.refused += 1

    def run(self, cases: int, start: int = 0) -> None:
        """Tries many cases by hypothesis, the same ones at every call with the same `start`."""
        for first in range(0, cases, CHUNK):
            test = settings(max_examples=min(CHUNK, cases - first), **OPTIONS)(
                given(self.cases)(lambda case: self(case))
            )
            seed(start + first)(test)()

    def fuzz_one_input(self, content: bytes) -> None:
        """Tries the case that these bytes stand for; for a fuzzer that follows coverage."""
        if not hasattr(self, "_from_bytes"):
            self._from_bytes = settings(**OPTIONS)(given(self.cases)(self.__call__)).hypothesis.fuzz_one_input
        self._from_bytes(content)


OPTIONS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@contextmanager
def sentences_allowed(refused: Callable[[], None] = lambda: None) -> Iterator[None]:
    """What may be raised inside: a ValueError or OSError of one sentence; `refused` hears of it."""
    try:
        yield
    except (ValueError, OSError) as error:
        refused()
        check_sentence(str(error))


def check_sentence(text: str) -> None:
    """Fails unless this is one sentence that says what to do."""
    assert text and "\n" not in text and len(text) < LONGEST_SENTENCE, f"no sentence: {text!r}"
    assert REMEDY.search(text), f"it does not say what to do: {text!r}"


def peak_megabytes() -> int:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
