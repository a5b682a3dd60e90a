"""Lanes give what one thread gives, in its order, and leave nothing behind when nobody wants the rest."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import _global_forward_pre_hooks

from dpi_core import DPI, Denoiser, FlowMatching
from dpi_core.analysis.attribution import layer_tangents, shares
from dpi_core.analysis.landscape import plane_errors
from dpi_core.analysis.pinning import pinned_errors
from dpi_core.analysis.side_by_side import side_by_side

GRID = [0.0, 0.3, 0.6, 1.0]


@pytest.fixture
def threads():
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(1)


@pytest.fixture
def denoiser(generator):
    backbone = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 1, 3, padding=1)
    )
    net = DPI(backbone.double())
    net.separate(0.4, generator)
    return Denoiser(net, FlowMatching())


@pytest.fixture
def samples(generator):
    return torch.randn(2, 4, 1, 6, 6, generator=generator, dtype=torch.float64)


ANALYSES = {
    "landscape": lambda d, x: [(c.s, c.lam, *c.mse) for c in plane_errors(d, *x, GRID, GRID)],
    "pinning": lambda d, x: [(c.level, c.hold, c.layer or 0, *c.mse) for c in pinned_errors(d, *x, GRID)],
    "shares": lambda d, x: [(c.s, c.gain, *c.values) for c in shares(d, *x, GRID)],
    "tangents": lambda d, x: [(c.s, c.layer or 0, c.quality, c.moved) for c in layer_tangents(d, *x, GRID)],
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("analysis", ANALYSES)
def test_lanes_find_what_one_thread_finds(analysis, denoiser, samples, request):
    alone = ANALYSES[analysis](denoiser, samples)
    threads = request.getfixturevalue("threads")
    together = ANALYSES[analysis](denoiser, samples)
    np.testing.assert_allclose(np.array(together), np.array(alone), rtol=1e-9, atol=1e-12)
    assert torch.get_num_threads() == threads


def test_each_lane_has_a_copy_and_a_share_of_the_threads(denoiser, threads):
    met = threading.Barrier(threads, timeout=30)

    def look(own, item):
        met.wait()  # all lanes have an item at once
        yield item, id(own), torch.get_num_threads()

    found = list(side_by_side(denoiser, look, range(threads)))
    assert [item for item, _, _ in found] == list(range(threads))
    assert len({own for _, own, _ in found} - {id(denoiser)}) == threads
    assert all(count == 1 for _, _, count in found)
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [threads] and torch.get_num_threads() == threads


def test_an_error_comes_after_what_was_found_before_it(denoiser, threads):
    def fail(own, item):
        yield item
        if item == 2:
            raise ValueError("the third")

    steps = side_by_side(denoiser, fail, range(9))
    assert [next(steps) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(steps)
    assert not _global_forward_pre_hooks


def test_who_stops_waits_for_one_layer_and_nothing_is_left(denoiser, samples, threads):
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.02)
            return x

    slow = Denoiser(DPI(nn.Sequential(nn.Conv2d(1, 1, 1), *(Slow() for _ in range(500)))).double(), FlowMatching())
    before = threading.active_count()
    steps = plane_errors(slow, *samples, GRID, GRID)
    stopper = threading.Event()

    class Stopped(BaseException):
        pass

    def ask(module, inputs):
        if threading.current_thread() is threading.main_thread() and stopper.is_set():
            raise Stopped

    handle = nn.modules.module.register_module_forward_pre_hook(ask)
    timer = threading.Timer(0.3, stopper.set)
    timer.start()
    began = time.perf_counter()
    try:
        with pytest.raises(Stopped):
            next(steps)
    finally:
        handle.remove()
        timer.join()
    assert time.perf_counter() - began < 5, "a pass takes 10 s on a machine that does nothing else"
    assert threading.active_count() == before and not _global_forward_pre_hooks


def test_a_network_that_is_watched_or_cannot_be_copied_stays_in_this_thread(denoiser, samples, threads):
    seen = []
    handle = denoiser.net.backbone.register_forward_hook(lambda *_: seen.append(threading.current_thread()))
    list(plane_errors(denoiser, *samples, GRID, GRID))
    handle.remove()
    assert len(seen) == len(GRID) ** 2 and set(seen) == {threading.current_thread()}
    denoiser.lock = threading.Lock()
    assert len(list(plane_errors(denoiser, *samples, GRID, GRID))) == len(GRID) ** 2
