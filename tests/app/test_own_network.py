"""The ten lines of the README, taken from it: a network of one's own, trained on a folder of images, in the app."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import dpi_core
from app.services import cache, stored
from dpi_core.cli import main

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().split("## Your own network in ten lines")[1].split("\n## ")[0]
LINES, COMMANDS = re.findall(r"```(?:python)?\n(.*?)```", SECTION, re.DOTALL)
NAME = "mine-flow-dpi"


def quick(lines: str) -> str:
    """The same lines with a small network, small images and few steps."""
    for long, short in (("width=32", "width=4"), ("size=32", "size=8"), ("steps=2000", "steps=6")):
        assert lines.count(long) == 1, f"the README no longer says {long}"
        lines = lines.replace(long, short)
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder in which the lines were run."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 10), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "photos" / f"{i}.png")
    (folder / "my_network.py").write_text(quick(LINES))
    assert COMMANDS.splitlines()[0] == "python my_network.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "my_network.py"], cwd=folder, check=True, env=environment, timeout=200)
    return folder


@pytest.fixture
def trained(folder, monkeypatch) -> Iterator[Path]:
    """That folder, gone into, with the README's variables set."""
    monkeypatch.chdir(folder)
    for name, value in (word.split("=") for word in shlex.split(COMMANDS.splitlines()[1].removeprefix("export "))):
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(folder)  # what PYTHONPATH=. does for a new process
    yield folder
    sys.modules.pop("my_network", None)


def open_app(folder: Path, monkeypatch, **parameters) -> AppTest:
    monkeypatch.setattr(stored, "CHECKPOINTS", folder / "checkpoints")
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.query_params.update(parameters)
    app.run()
    assert not app.exception, app.exception[0].stack_trace
    return app


def settled(app: AppTest) -> AppTest:
    """The app once the engine has answered."""
    deadline = time.monotonic() + 60
    while not app.error and "scrubber" not in {getattr(node, "key", None) for node in app.main}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        app.run()
    return app


def test_the_readmes_lines_train_save_and_open_a_network_of_ones_own(trained, monkeypatch):
    model = dpi_core.load(trained / "checkpoints" / NAME)
    assert (model.net.theta1["0.weight"] - model.net.theta0["0.weight"]).abs().max() > 0
    assert model.recipe.backbone.factory == "my_network:network" and model.metrics["training"]["steps"] == 6
    *_, analyse, opening = COMMANDS.splitlines()
    assert opening == "streamlit run app/main.py"
    main(shlex.split(analyse.removeprefix("python -m dpi_core ")))
    app = settled(open_app(trained, monkeypatch, model=NAME))
    assert not app.error
    assert any("samples of the model itself" in caption.value for caption in app.caption)
    computed = settled(open_app(trained, monkeypatch, model=NAME, inputs="Samples"))
    assert not computed.error


def test_the_app_runs_no_factory_that_was_not_allowed(trained, monkeypatch, unescaped):
    monkeypatch.delenv("DPI_FACTORIES")
    cache.engine.clear()  # it keeps the models that it was allowed to load
    app = settled(open_app(trained, monkeypatch, model=NAME, inputs="Samples"))
    (error,) = app.error
    said = unescaped(error.value)
    assert "made by my_network:network, which is not allowed to run here" in said
    assert "DPI_FACTORIES=my_network:network" in said
