"""Every example runs, and its number shows that the scalar helps: the same backbone blind does worse."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
STEPS = {
    "blur_width": 100,
    "diffusers_unet": 60,
    "lstm_filter": 100,
    "monai_unet": 60,
    "transformer_sequences": 60,
    "transformers_convnext": 60,
}
"""Training steps that take a second or two."""

pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries, while they are imported


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    yield
    for name in (*STEPS, "compare"):
        sys.modules.pop(name, None)


def test_every_example_is_run():
    assert set(STEPS) == {file.stem for file in EXAMPLES.glob("*.py")} - {"compare"}


@pytest.mark.parametrize("name", STEPS)
def test_a_network_that_knows_the_scalar_does_better_than_the_same_one_blind(name, capsys):
    found = import_module(name).main(STEPS[name])
    assert found.dpi < found.blind * 0.98
    assert f"blind {found.blind:.4f}, DPI {found.dpi:.4f}" in capsys.readouterr().out


def test_untrained_both_are_the_same_network():
    compare = import_module("compare")
    torch.manual_seed(0)

    def draw(s, n, generator):
        x = torch.randn(n, 3, generator=generator)
        return x, s * x

    found = compare.compare(torch.nn.Linear(3, 3), draw, steps=1, learning_rate=0.0)
    assert found.dpi == pytest.approx(found.blind, rel=1e-6)
