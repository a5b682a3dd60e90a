"""Pinning: one layer is held at θ0, at θ1 or at its mean for all s while the others follow λ(s).

What that costs in dB says where this network uses its second parameter set. Holding layer after layer, the most dispensable
first, says how few of them carry nearly all of it. Layers held are frozen after training: a network trained with fewer sets
would lose less, so how many a smaller network needs only training tells. The order is chosen on one half of the samples and
judged on the other, or the choice would make it look too good.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.analysis.landscape import Loss, Measure, is_judged, loss
from dpi_core.analysis.layers import ByLayer, Layer
from dpi_core.analysis.paths import denoised, per_sample_mse
from dpi_core.analysis.side_by_side import side_by_side
from dpi_core.denoiser import Denoiser

HOLDS = ("theta0", "theta1", "mean")
SHARE = 0.95
"""Of what the network loses when all layers are held: layers that carry it are enough."""

LEAST_GAIN = 1e-3
"""In dB; less is rounding."""

NO_GAIN = "all layers held lose nothing, so no number of layers carries a share of it"


@dataclass(frozen=True)
class PinnedErrors:
    """Errors of some samples with one layer held, or none.

    Attributes:
        level: index of the noise level.
        hold: index in `HOLDS`.
        layer: index of the layer; None for the network as it is.
        first: index of the first sample.
        mse: (b,) of the samples from there on.
    """

    level: int
    hold: int
    layer: int | None
    first: int
    mse: np.ndarray


@dataclass(frozen=True)
class Pinning:
    """What it costs to hold one layer.

    Attributes:
        layers: m of them.
        s: (t,) noise levels.
        held_at: (3, m) λ of the layer for each of `HOLDS`; the mean over its parameters.
        own: (t, n) error of each sample with all layers at λ(s).
        errors: (3, m, t, n) with one layer held.
        losses: for each hold and each layer, dB against `own`.
        measure: how samples are averaged.
    """

    layers: tuple[Layer, ...]
    s: np.ndarray
    held_at: np.ndarray
    own: np.ndarray
    errors: np.ndarray
    losses: tuple[tuple[Loss, ...], ...]
    measure: Measure


@dataclass(frozen=True)
class HoldingStep:
    """The error of one set of held layers at one level is known."""

    s: float


@dataclass(frozen=True)
class HoldingOrder:
    """Layers held one after another, the most dispensable first.

    Attributes:
        order: indices of the layers.
        holds: index in `HOLDS` for each of them.
        kept: (k,) how many layers keep two sets, falling from m to 0.
        losses: (k, 3) dB lost then: mean over s, low, high; on samples that did not choose the order.
        enough: the fewest kept layers that lose at most 5 % of what holding all loses; None where that is nothing.
    """

    order: tuple[int, ...]
    holds: tuple[int, ...]
    kept: np.ndarray
    losses: np.ndarray
    enough: int | None


def mean_position(net: ByLayer, s_grid: Sequence[float]) -> Float[Tensor, " p"]:
    """λ of each parameter, averaged over the judged levels of a grid."""
    judged = np.array(s_grid)[is_judged(np.array(s_grid))].tolist()
    return torch.stack([net.learned(s) for s in judged]).mean(0)


def held_positions(net: ByLayer, s_grid: Sequence[float]) -> list[Tensor]:
    """λ of each parameter for each of `HOLDS`, (p,) each."""
    return [net.together(0.0), net.together(1.0), mean_position(net, s_grid)]


def pinned_errors(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: Sequence[float],
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
) -> Iterator[PinnedErrors]:
    """Errors with every layer held in turn at θ0, θ1 and its mean, one network call each.

    Args:
        denoiser: of a DPI network.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s_grid: t noise levels in [0, 1].
        layers: indices of those to hold; all by default.
        batch_size: samples per network call.

    Raises:
        ValueError: the network has one parameter set, or its output is not finite.
    """
    whole = ByLayer(denoiser.net)
    held = held_positions(whole, s_grid)
    which = range(len(whole.layers)) if layers is None else layers
    cases = [(0, None), *((hold, layer) for layer in which for hold in range(len(HOLDS)))]

    def at(denoiser: Denoiser, where: tuple[int, float, int]) -> Iterator[PinnedErrors]:
        level, s, first = where
        net, part = ByLayer(denoiser.net), slice(first, first + batch_size)
        learned = net.learned(s)
        with net.remembering():
            for hold, layer in cases:
                net.lam = learned if layer is None else net.hold(learned, layer, held[hold])
                yield PinnedErrors(level, hold, layer, first, _errors(net, denoiser, x0[part], eps[part], s))

    parts = [(level, s, first) for level, s in enumerate(s_grid) for first in range(0, len(x0), batch_size)]
    yield from side_by_side(denoiser, at, parts)


def pinning(
    denoiser: Denoiser, found: Sequence[PinnedErrors], s_grid: Sequence[float], measure: Measure = "psnr", seed: int = 0
) -> Pinning:
    """Losses with intervals from all results of `pinned_errors`, of all layers.

    Args:
        denoiser: of a DPI network.
        found: every result.
        s_grid: its noise levels.
        measure: how samples are averaged.
        seed: of the bootstrap.
    """
    net = ByLayer(denoiser.net)
    n = max(each.first + len(each.mse) for each in found)
    own = np.empty((len(s_grid), n))
    errors = np.empty((len(HOLDS), len(net.layers), len(s_grid), n))
    for each in found:
        part = slice(each.first, each.first + len(each.mse))
        if each.layer is None:
            own[each.level, part] = each.mse
        else:
            errors[each.hold, each.layer, each.level, part] = each.mse
    s = np.array(s_grid)
    losses = tuple(tuple(loss(s, own, held, measure, seed) for held in layers) for layers in errors)
    held_at = torch.stack([net.gather(position) for position in held_positions(net, s_grid)]).numpy()
    return Pinning(net.layers, s, held_at, own, errors, losses, measure)


def holding_order(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    single: Pinning,
    candidates: int = 4,
    steps: int = 16,
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[HoldingStep | HoldingOrder]:
    """Greedy pinning: from all layers at λ(s) to none; a `HoldingStep` for each error, the order at the end.

    Each layer is held where alone it lost least. A step tries the few layers that lost least when last tried, on top of
    those held already, and holds the best of them. One half of the samples chooses, the other judges.

    Args:
        denoiser: of a DPI network.
        x0: the samples of `single`, (n, ...).
        eps: their noise, same shape.
        single: every layer held alone.
        candidates: layers tried in a step, at least.
        steps: at most so many; with more layers a step holds several.
        batch_size: samples per network call.
        seed: of the halves and of the bootstrap.

    Raises:
        ValueError: fewer than 4 samples, which cannot be halved and judged, or no candidate.
    """
    if len(x0) < 4:
        raise ValueError(f"{len(x0)} samples were given, but one half chooses for the other: give at least 4.")
    if candidates < 1 or steps < 1:
        raise ValueError(f"{candidates} candidates in {steps} steps hold nothing; give at least 1 of each.")
    search = _Search(denoiser, x0, eps, single, batch_size, seed)
    at_once = -(-len(single.layers) // steps)
    while search.waiting:
        yield from search.measure_held()
        for layer in search.waiting[: candidates + at_once - 1]:
            yield from search.try_layer(layer)
        search.hold_best(at_once)
    yield from search.judge()
    yield search.result()


def count_holding_steps(layers: int, s_grid: Sequence[float], candidates: int = 4, steps: int = 16) -> int:
    """How many `HoldingStep` there will be; see `holding_order`."""
    judged = int(is_judged(np.array(s_grid)).sum())
    at_once, choosing = -(-layers // steps), len(_choosing(list(range(judged))))
    waiting = range(layers, 0, -at_once)
    tried = sum(1 + min(left, candidates + at_once - 1) for left in waiting)
    return tried * choosing + (len(waiting) + 1) * judged


def _choosing(levels: list[int]) -> list[int]:
    """The judged levels that an order is chosen on."""
    return levels[:: 2 if len(levels) > 4 else 1]


class _Search:
    """Which layers are held so far, and what each of the others lost when it was last tried."""

    def __init__(
        self, denoiser: Denoiser, x0: Tensor, eps: Tensor, single: Pinning, batch_size: int, seed: int
    ) -> None:
        self.denoiser, self.single, self.batch_size, self.seed = denoiser, single, batch_size, seed
        halves = np.array_split(np.random.default_rng(seed).permutation(len(x0)), 2)
        self.choosing, self.judging = (np.sort(half) for half in halves)
        self.x0, self.eps = x0, eps
        self.net = ByLayer(denoiser.net)
        self.held = held_positions(self.net, single.s.tolist())
        self.levels: list[int] = np.flatnonzero(is_judged(single.s)).tolist()
        self.choosing_levels = _choosing(self.levels)
        self.held_errors = single.own[self.levels][:, self.choosing]
        errors = single.errors[:, :, self.levels][..., self.choosing]
        costs = np.array([[self._cost(self.held_errors, rows) for rows in layers] for layers in errors])
        self.best_hold = costs.argmin(axis=0)
        self.cost = dict(enumerate(costs.min(axis=0)))
        self.order: list[int] = []
        self.kept = [len(single.layers)]
        self.losses: list[tuple[float, float, float]] = []

    @property
    def waiting(self) -> list[int]:
        """Layers that still follow λ(s), the most dispensable first."""
        return sorted((layer for layer in self.cost if layer not in self.order), key=lambda layer: self.cost[layer])

    def measure_held(self) -> Iterator[HoldingStep]:
        """Measures the network with those held that are held."""
        self.held_errors = yield from self._measure(self.order, self.choosing_levels, self.choosing)

    def try_layer(self, layer: int) -> Iterator[HoldingStep]:
        """Measures what holding it costs on top of the others."""
        errors = yield from self._measure([*self.order, layer], self.choosing_levels, self.choosing)
        self.cost[layer] = self._cost(self.held_errors, errors)

    def _cost(self, better: np.ndarray, worse: np.ndarray) -> float:
        """The upper end of the interval: what helps a few samples by chance shall not come first."""
        return loss(np.full(len(better), 0.5), better, worse, self.single.measure, self.seed).total[2]

    def hold_best(self, count: int) -> None:
        """Holds those that cost least."""
        self.order += self.waiting[:count]
        self.kept.append(len(self.single.layers) - len(self.order))

    def judge(self) -> Iterator[HoldingStep]:
        """Measures the losses of the steps on the other half."""
        s = self.single.s[self.levels]
        own = self.single.own[self.levels][:, self.judging]
        for kept in self.kept:
            held = self.order[: len(self.order) - kept]
            errors = yield from self._measure(held, self.levels, self.judging)
            self.losses.append(loss(s, own, errors, self.single.measure, self.seed).total)

    def result(self) -> HoldingOrder:
        """The order and its curve."""
        losses, kept = np.array(self.losses), np.array(self.kept)
        bound = (1 - SHARE) * losses[-1, 0]
        enough = int(kept[losses[:, 0] <= bound].min()) if losses[-1, 0] > LEAST_GAIN else None
        holds = tuple(int(self.best_hold[layer]) for layer in self.order)
        return HoldingOrder(tuple(self.order), holds, kept, losses, enough)

    def _measure(
        self, held: Sequence[int], levels: Sequence[int], samples: np.ndarray
    ) -> Generator[HoldingStep, None, np.ndarray]:
        """Errors of some samples with some layers held, (l, n)."""
        which, rows = torch.from_numpy(samples), []
        for s in self.single.s[levels].tolist():
            self.net.lam = self.net.learned(s)
            for layer in held:
                self.net.lam = self.net.hold(self.net.lam, layer, self.held[self.best_hold[layer]])
            rows.append(_errors(self.net, self.denoiser, self.x0[which], self.eps[which], s, self.batch_size))
            yield HoldingStep(s)
        return np.stack(rows)


def _errors(net: ByLayer, denoiser: Denoiser, x0: Tensor, eps: Tensor, s: float, batch_size: int = 512) -> np.ndarray:
    return per_sample_mse(denoised(Denoiser(net, denoiser.process), x0, eps, s, s, batch_size) - x0)
