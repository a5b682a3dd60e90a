"""What the tests of the app share: the shipped checkpoints, and copies of them that a test may damage."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.services import stored
from app.services.inference import Engine

# As `streamlit run` has it. Else AppTest puts the folder there for every run of the script and takes it away again, and a
# thread that imports something meanwhile may miss a folder of the path.
sys.path.insert(0, str(Path(__file__).parents[2] / "app"))


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of the test's own: nothing is cached, nobody waits."""
    engine = Engine()
    yield engine
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
