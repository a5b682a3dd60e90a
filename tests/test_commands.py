"""The commands of the README and the documentation do what is said of them: each is given, or it is said which test gives it.

Names that stand for a reader's own files are replaced by small ones; steps are reduced by options that the commands have.
"""

import dataclasses
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dpi_core
from dpi_core.backbones.dncnn import DnCNNConfig
from dpi_core.build import build_denoiser, load_recipe
from dpi_core.cli import main
from dpi_core.model import Model
from dpi_core.reference_format import export_reference

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = "python -m dpi_core "


def commands():
    """Every command with arguments, from the fenced blocks and within the text."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
        for line in lines:
            words = shlex.split(line, comments=True) if re.match(r"(python|torchrun|streamlit) ", line) else []
            found.add(shlex.join(words))
    return sorted(command for command in found if not re.fullmatch(rf"|{PROGRAM}[a-z]+", command))


@dataclass(frozen=True)
class Run:
    """How a command is given.

    Attributes:
        makes: a file that is there afterwards, or
        says: what is printed.
        words: of the command -> what stands in their place.
        more: arguments that make it shorter.
    """

    makes: str = ""
    says: str = ""
    words: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()


ONE_STEP = ("--steps", "1", "--out", "made", "--runs", "made/runs")
GIVEN = {
    "train digits-vp-dpi": Run("made/digits-vp-dpi/model.safetensors", more=ONE_STEP),
    "train fashion-flow-dpi --data PATH": Run(
        "made/fashion-flow-dpi/config.json", words={"PATH": "idx"}, more=ONE_STEP
    ),
    "train RECIPE --init CHECKPOINT": Run(
        "started/digits-vp-dpi/config.json",
        words={"RECIPE": "digits-vp-dpi", "CHECKPOINT": "digits-vp-none"},
        more=("--steps", "1", "--out", "started", "--runs", "started/runs"),
    ),
    "judge --data PATH --out FILE": Run(
        "judge.safetensors", words={"PATH": "idx", "FILE": "judge.safetensors"}, more=("--epochs", "1")
    ),
    "evaluate digits-vp-dpi": Run(says='"psnr"'),
    "evaluate CHECKPOINT --images FOLDER --sigma 15 25 50": Run(
        says="σ = 50: ", words={"CHECKPOINT": "photos-drunet-dpi", "FOLDER": "photos"}
    ),
    "analyse digits-vp-dpi": Run("checkpoints/small/analysis.safetensors", words={"digits-vp-dpi": "small"}),
    "analyse CHECKPOINT": Run(
        "checkpoints/small/analysis.safetensors", words={"CHECKPOINT": "small"}, more=("--only", "layers")
    ),
    "halve digits-vp-dpi": Run(says="dB in 16 bits", more=("--n", "8")),
    "sample digits-vp-dpi --n 64": Run("samples.safetensors", more=("--steps", "4")),
    "import WEIGHTS.pt --onto RECIPE --name NAME": Run(
        "checkpoints/mine-vp-dpi/config.json", words={"RECIPE": "digits-vp-dpi", "NAME": "mine-vp-dpi"}
    ),
    "export digits-vp-dpi --to reference": Run("digits-vp-dpi-reference.pt"),
    "export digits-vp-dpi --to reference --out digits.pt": Run("digits.pt"),
    "export digits-vp-dpi --s 0.3 --to onnx": Run("digits-vp-dpi-s0.3.onnx"),
    "info digits-vp-dpi": Run(says="saturation: "),
    "report": Run("RESULTS.md"),
}
"""Commands of `python -m dpi_core` that take a moment, as they stand in the documents."""

ELSEWHERE = {
    r"python -m dpi_core analyse mine-flow-dpi .*|python my_network\.py": "tests/app/test_own_network.py",
    r"python -m dpi_core sweep (--smoke|digits-vp.*|photos-drunet .*)": "tests/dpi_core/test_sweep.py",  # the others take hours
    r"torchrun .*": "tests/dpi_core/test_runs.py",
    r"python examples/\w+\.py": "tests/test_examples.py",
    r"python -m benchmarks\..*|python benchmarks/.*": "tests/app/test_benchmarks.py",
    r"python -m fuzzing.*": "tests/test_fuzzing.py",
    r"python docs/\w+\.py": "tests/test_docs.py",
    r"streamlit run app/main\.py": "tests/e2e/conftest.py",
    r"streamlit run app/main\.py .*--engine.*|python -m app\.serve.*": "tests/app/test_cluster.py",
    r"streamlit run app/server\.py.*": "tests/e2e/test_security.py",
    r"python -m venv .*": "",
}
"""Other commands -> the test that gives them, or what they do with less."""


def test_every_command_is_given_here_or_elsewhere():
    for command in commands():
        given = command.removeprefix(PROGRAM) in GIVEN
        tests = [test for pattern, test in ELSEWHERE.items() if re.fullmatch(pattern, command)]
        assert given or tests, f"{command}: give it in GIVEN, or say in ELSEWHERE which test does"
        assert all((ROOT / test).exists() for test in tests)
    assert {f"{PROGRAM}{line}" for line in GIVEN} - {f"{PROGRAM}report"} <= set(commands()), (
        "GIVEN holds what is written"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the commands are given."""
    place = tmp_path_factory.mktemp("commands")
    for name in ("digits-vp-dpi", "digits-vp-none", "photos-drunet-dpi"):
        shutil.copytree(ROOT / "checkpoints" / name, place / "checkpoints" / name)
    shutil.copytree(ROOT / "results", place / "results")
    recipe = load_recipe("digits-vp-dpi")
    small = dataclasses.replace(recipe, backbone=DnCNNConfig(channels=4, depth=3))
    dpi_core.save(Model(build_denoiser(small), small, {}), place / "checkpoints" / "small")
    torch.save(export_reference(dpi_core.load(ROOT / "checkpoints" / "digits-vp-dpi").net), place / "WEIGHTS.pt")
    rng = np.random.default_rng(0)
    for folder in ("photos", "idx"):
        (place / folder).mkdir()
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(place / "photos" / f"{number}.png")
    for part in ("train", "t10k"):
        pixels = rng.integers(0, 256, (128, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes()
        (place / "idx" / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = rng.integers(0, 10, 128, dtype=np.uint8).tobytes()
        (place / "idx" / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 128]) + labels)
    return place


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the ONNX exporter
@pytest.mark.parametrize("command", GIVEN)
def test_a_command_does_what_is_said_of_it(command, place, monkeypatch, capsys):
    run = GIVEN[command]
    monkeypatch.chdir(place)
    if run.makes:
        shutil.rmtree(place / "made", ignore_errors=True)
        (place / run.makes).unlink(missing_ok=True)
    main([run.words.get(word, word) for word in shlex.split(command)] + [*run.more])
    assert (place / run.makes).exists()
    assert run.says in capsys.readouterr().out
