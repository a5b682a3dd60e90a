"""What the tests of the app share: the shipped checkpoints, and copies of them that a test may damage."""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.records import Request
from app.services import cache, stored
from app.services.computer import Task
from app.services.inference import Engine
from app.services.jobs import Outcome

# As `streamlit run` has it. Else AppTest puts the folder there for every run of the script and takes it away again, and a
# thread that imports something meanwhile may miss a folder of the path.
sys.path.insert(0, str(Path(__file__).parents[2] / "app"))


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of the test's own: nothing is cached, nobody waits."""
    engine = Engine()
    yield engine
    engine.close()


class Patient:
    """Computes nothing, and takes its time for it: a second for each request, unless nobody waits for it any more.

    Attributes:
        seen: kind of each request that has ended, and how.
    """

    at_once = 1

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def on(self, device: str) -> "Patient":
        return self

    def computes_apart(self, device: str) -> bool:
        return False

    def forget(self, folder: Path | None = None) -> None:
        pass

    def joined(self, first: Request, waiting: Sequence[Request]) -> list[Request]:
        return []

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            over = time.monotonic() + 1
            while time.monotonic() < over and task.is_wanted:
                time.sleep(0.01)
            outcome = Outcome("failed", error="nothing was computed.") if task.is_wanted else Outcome("cancelled")
            self.seen.append((type(task.request).__name__, outcome.status))
            yield task, outcome


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, list[tuple[str, str]]]]:
    """An engine that the pages ask, whose every computation takes a second and fails; and how those so far have ended."""
    computer = Patient()
    engine = Engine(computers=computer)
    monkeypatch.setattr(cache, "engine", lambda: engine)
    yield engine, computer.seen
    engine.close()


@pytest.fixture
def copy_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Copies a shipped checkpoint into a folder of checkpoints of the test's own, which the app then reads."""
    root = tmp_path / "checkpoints"
    root.mkdir()
    monkeypatch.setattr(stored, "CHECKPOINTS", root)
    shipped = Path(__file__).parents[2] / "checkpoints"

    def copy(name: str, into: str | None = None) -> Path:
        return Path(shutil.copytree(shipped / name, root / (into or name)))

    return copy


@pytest.fixture
def axes_without_title() -> Callable[[Any], list[str]]:
    """Names the axes, of all charts on a page, whose ticks stand for something unnamed."""

    def axes_without_title(app: Any) -> list[str]:
        layouts = [json.loads(chart.proto.spec)["layout"] for chart in app.get("plotly_chart")]
        axes = [(name, axis) for layout in layouts for name, axis in layout.items() if name[1:5] == "axis"]
        assert len(axes) >= 2 * len(layouts) > 0
        return [
            name
            for name, axis in axes
            if not axis.get("title", {}).get("text") and axis.get("showticklabels", True) and axis.get("visible", True)
        ]

    return axes_without_title


@pytest.fixture
def unescaped() -> Callable[[str], str]:
    """Gives Markdown as it is read, where it shows a text as it is."""
    return lambda text: re.sub(r"\\([\W_])", r"\1", text)
