"""Shares of what the second parameter set does, layer by layer: each layer's place on its way from θ0 to θ(s) is an input.

F(a) is a number made of x̂0 with every layer j at a_j·λ(s); a = 0 is θ0, a = 1 the network itself. Integrated gradients
(Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017, eq. 1) and Shapley values (Štrumbelj & Kononenko,
JMLR 2010), both by Captum, share out F(1) − F(0): their sums have to give it, up to a residual that comes with them. The
derivative along λ is a sum over layers too: dx̂0/dλ = Σ_j J_j (θ1 − θ0)_j, one forward-mode product each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.analysis.landscape import FLOOR, Measure
from dpi_core.analysis.layers import ByLayer
from dpi_core.analysis.side_by_side import side_by_side
from dpi_core.denoiser import Denoiser
from dpi_core.judged import PEAK_TO_PEAK
from dpi_core.seeds import seeded_generator

Target = Callable[[Tensor, Tensor], Tensor]
"""(x̂0, x0), both (n, ...) -> a scalar tensor."""

GAIN_FLOOR = 0.1
"""Completeness residuals are relative to the gain, or to this many of the target's units (dB) where it is smaller."""

FLAGGED = 0.01
"""A completeness residual above this needs more steps."""

MOVED_FLOOR = 1e-6
"""The derivative's residual is relative to its RMS over x̂0, or to this where it is smaller."""


@dataclass(frozen=True)
class Shares:
    """A gain shared out over the layers.

    Attributes:
        s: the noise level.
        method: "integrated gradients", "shapley" or "ablation".
        values: (m,) in the target's units.
        gain: F(1) − F(0).
        residual: |Σ values − gain| / max(|gain|, `GAIN_FLOOR`); NaN for ablation, which need not add up.
    """

    s: float
    method: str
    values: np.ndarray
    gain: float
    residual: float


@dataclass(frozen=True)
class Tangent:
    """The derivative of x̂0 along one layer's λ, or along that of all of them.

    Attributes:
        s: the noise level.
        layer: index of the layer; None for all together.
        quality: d(dB)/dλ.
        moved: root mean square of ∂x̂0/∂λ over samples and entries.
        residual: for all together, RMS of Σ_layers − total relative to max(RMS of the total, `MOVED_FLOOR`); else NaN.
    """

    s: float
    layer: int | None
    quality: float
    moved: float
    residual: float = math.nan


def quality_target(measure: Measure = "psnr") -> Target:
    """PSNR of x̂0 in dB, averaged as `measure` says; samples in [-1, 1]."""

    def quality(x0_hat: Tensor, x0: Tensor) -> Tensor:
        errors = (x0_hat - x0).square().flatten(1).mean(1)
        bounded = (errors if measure == "psnr" else errors.mean(0, keepdim=True)).clamp(min=FLOOR)
        return 10 * (PEAK_TO_PEAK**2 / bounded).log10().mean()

    return quality


def shares(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: Sequence[float],
    target: Target | None = None,
    methods: Sequence[str] = ("integrated gradients", "shapley"),
    steps: int = 16,
    permutations: int = 2,
    seed: int = 0,
) -> Iterator[Shares]:
    """Shares out what moving from θ0 to θ(s) gains, one result for each level and method.

    Args:
        denoiser: of a DPI network; with groups every layer moves towards its own λ(s).
        x0: clean inputs, (n, ...), all in one network call.
        eps: their noise, same shape.
        s_grid: noise levels in [0, 1].
        target: what is shared out; the mean PSNR in dB by default.
        methods: of "integrated gradients", "shapley" and "ablation".
        steps: nodes of the Gauss-Legendre rule that integrates the gradients.
        permutations: orders that Shapley sampling adds the layers in; every other one is the one before, backwards.
        seed: of these orders.

    Raises:
        ValueError: the network has one parameter set, an unknown method, or a target that is not finite.
    """
    ways = {"integrated gradients": _integrated, "shapley": _shapley, "ablation": _ablated}
    for method in methods:
        if method not in ways:
            raise ValueError(f"the method is {method!r}, but has to be one of {', '.join(ways)}.")
    ByLayer(denoiser.net)  # refuses a network with one parameter set

    def at(denoiser: Denoiser, s: float) -> Iterator[Shares]:
        net = ByLayer(denoiser.net)
        if float(denoiser.process.preconditioning(s).c_out) == 0:  # x̂0 is x_s, whatever the network returns
            for method in methods:
                yield Shares(s, method, np.zeros(len(net.layers)), 0.0, math.nan if method == "ablation" else 0.0)
            return
        with net.remembering():
            game = _Game(denoiser, net, x0, eps, s, target or quality_target())
            ends = torch.stack([torch.zeros(len(net.layers)), torch.ones(len(net.layers))]).double()
            with torch.no_grad():
                start, end = game(ends).tolist()
            if not math.isfinite(end - start):
                raise ValueError(
                    f"the target at s = {s:g} goes from {start:g} to {end:g}; choose one that is finite, or load a"
                    " checkpoint from before training diverged."
                )
            for method in methods:
                values = ways[method](game, ends[1:], steps, permutations, seed).numpy()
                rest = abs(values.sum() - (end - start)) / max(abs(end - start), GAIN_FLOOR)
                yield Shares(s, method, values, end - start, math.nan if method == "ablation" else float(rest))

    yield from side_by_side(denoiser, at, s_grid)


class _Game:
    """F(a) at one noise level, for rows of shares a of the way from θ0 to θ(s)."""

    def __init__(self, denoiser: Denoiser, net: ByLayer, x0: Tensor, eps: Tensor, s: float, target: Target) -> None:
        self.net, self.s, self.target = net, s, target
        self.denoiser = Denoiser(net, denoiser.process)
        self.x0 = x0.to(denoiser.device)
        self.x_s = denoiser.process.add_noise(self.x0, eps.to(denoiser.device), s)
        self.learned = net.learned(s)

    def __call__(self, rows: Float[Tensor, "k m"]) -> Float[Tensor, " k"]:
        """(k,) numbers, differentiable; on the CPU in float64."""
        return torch.stack([self._value(row) for row in rows])

    def _value(self, shares_of_way: Tensor) -> Tensor:
        self.net.lam = (self.net.spread(shares_of_way) * self.learned).clamp(0, 1)
        value = self.target(self.denoiser(self.x_s, self.s), self.x0)
        if value.ndim != 0:
            raise ValueError(f"the target has shape {tuple(value.shape)}, but has to be one number; take its mean.")
        return value.cpu().double()


def _integrated(game: _Game, ones: Tensor, steps: int, permutations: int, seed: int) -> Tensor:
    from captum.attr import IntegratedGradients  # takes a second, and a page has to open before

    method = IntegratedGradients(game)
    return method.attribute(ones, torch.zeros_like(ones), n_steps=steps, internal_batch_size=1)[0].detach()


@torch.no_grad()
def _shapley(game: _Game, ones: Tensor, steps: int, permutations: int, seed: int) -> Tensor:
    from captum.attr import ShapleyValueSampling

    generator = seeded_generator(seed)

    def orders(count: int, n: int) -> Iterator[list[int]]:
        for _ in range(0, n, 2):
            order = torch.randperm(count, generator=generator).tolist()
            yield from (order, order[::-1])[:n]

    method = ShapleyValueSampling(game)
    method.permutation_generator = orders
    return method.attribute(ones, torch.zeros_like(ones), n_samples=permutations)[0].double()


@torch.no_grad()
def _ablated(game: _Game, ones: Tensor, steps: int, permutations: int, seed: int) -> Tensor:
    from captum.attr import FeatureAblation

    return FeatureAblation(game).attribute(ones, torch.zeros_like(ones))[0].double()


@torch.no_grad()
def layer_tangents(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: Sequence[float],
    measure: Measure = "psnr",
) -> Iterator[Tangent]:
    """The exact derivative of x̂0 along each layer's λ at θ(s); the last of each level is along all of them together.

    Args:
        denoiser: of a DPI network.
        x0: clean inputs, (n, ...), all in one network call.
        eps: their noise, same shape.
        s_grid: noise levels in [0, 1].
        measure: how samples are averaged in dB.

    Raises:
        ValueError: the network has one parameter set.
    """
    ByLayer(denoiser.net)  # refuses a network with one parameter set
    x0 = x0.to(denoiser.device)

    def at(denoiser: Denoiser, s: float) -> Iterator[Tangent]:
        net = ByLayer(denoiser.net)
        by_layer = Denoiser(net, denoiser.process)
        x_s = denoiser.process.add_noise(x0, eps.to(denoiser.device), s)
        net.lam = net.learned(s)
        with net.remembering():
            x0_hat = by_layer(x_s, s)
            rise, total = _rise(x0_hat, x0, measure), torch.zeros_like(x0_hat)
            for layer in range(len(net.layers)):
                moved = net.tangent(layer, partial(by_layer, x_s, s))[1]
                total += moved
                yield Tangent(s, layer, _along(rise, moved), _rms(moved))
            moved = net.tangent(None, partial(by_layer, x_s, s))[1]
            residual = _rms(total - moved) / max(_rms(moved), MOVED_FLOOR)
            yield Tangent(s, None, _along(rise, moved), _rms(moved), residual)

    yield from side_by_side(denoiser, at, s_grid)


def _rise(x0_hat: Tensor, x0: Tensor, measure: Measure) -> Tensor:
    """The gradient of the quality in dB by x̂0."""
    with torch.enable_grad():
        estimate = x0_hat.detach().requires_grad_()
        return torch.autograd.grad(quality_target(measure)(estimate, x0), estimate)[0]


def _along(rise: Tensor, moved: Tensor) -> float:
    """The derivative of the quality along a direction in which x̂0 moves."""
    return float((rise.double() * moved.double()).sum())


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
