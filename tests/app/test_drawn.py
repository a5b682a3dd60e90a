"""Samples that a model draws as inputs are drawn once, for its pad and for the models beside it too."""

import gc

import pytest
import torch

import dpi_core
from app.records import Inputs
from app.services import drawn as kept
from app.services import stored
from app.services.drawn import drawn
from app.services.jobs import Cancelled

NAME = "mixture2d-mlp-none"


class Watched:
    """Draws the samples of a model that ships, and counts how often and how far."""

    def __init__(self, name=NAME):
        self.model = dpi_core.load(stored.read_model(name).key.folder)
        self.reports = []

    def draw(self, n=4, seed=0):
        return drawn(self.model, Inputs("samples", n, seed), self.report)

    def report(self, done, total, partial=None):
        self.reports.append((done, total))


@pytest.mark.parametrize("name", [NAME, "digits-vp-none"])
def test_they_are_the_librarys_and_drawn_once(name):
    watched = Watched(name)
    expected = watched.model.sample(4, seed=0).x.float()
    for _ in range(2):
        is_image = expected.ndim == 4
        torch.testing.assert_close(watched.draw(), expected.clamp(-1, 1) if is_image else expected, rtol=0, atol=0)
    steps = watched.model.recipe.sampling.steps + 1
    assert watched.reports == [(done, steps) for done in range(1, steps + 1)]


def test_another_seed_number_or_model_is_drawn_anew():
    watched, other = Watched(), Watched("mixture2d-mlp-blind")
    first = watched.draw()
    assert not torch.equal(watched.draw(seed=1), first)
    assert len(watched.draw(n=5)) == 5
    assert not torch.equal(other.draw(), first)
    assert other.reports != []
    before = len(watched.reports)
    assert torch.equal(watched.draw(), first) and len(watched.reports) == before


def test_a_drawing_that_is_stopped_leaves_nothing():
    watched = Watched()

    def stop(done, total, partial=None):
        raise Cancelled

    with pytest.raises(Cancelled):
        drawn(watched.model, Inputs("samples", 4, 0), stop)
    watched.draw()
    assert watched.reports[0] == (1, watched.model.recipe.sampling.steps + 1)


def test_they_are_bounded_in_bytes_and_go_with_the_model(monkeypatch):
    monkeypatch.setattr(kept, "MOST_BYTES", 4 * 2 * 4)
    watched = Watched()
    watched.draw()
    watched.draw(seed=1)
    assert kept._kept[watched.model.denoiser].held == 4 * 2 * 4
    before = len(kept._kept)
    del watched
    gc.collect()
    assert len(kept._kept) == before - 1
