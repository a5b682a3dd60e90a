"""What the layers put out: captured by module path, compared by distance and by centred kernel alignment (CKA).

Linear CKA (Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019) of features X and Y of
the same n samples is HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with K = XXᵀ and L = YYᵀ. HSIC is estimated without bias (Song
et al., "Feature Selection via Dependence Maximization", JMLR 2012, eq. 5), which needs 4 samples, and averaged over
batches (Nguyen et al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021, eq. 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dpi_core.analysis.layers import Layer, backbone_of, layers_of
from dpi_core.denoiser import Denoiser
from dpi_core.flat_storage import as_real
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule
from dpi_core.sample_batches import evaluating

FEWEST = 4
"""Samples that CKA without bias needs."""

MEMORY = 256 * 2**20
"""Bytes that the captured activations of one batch may take."""

CONSTANT = 1e-9
"""Variation below this share of the squared features counts as none."""

NOT_CALLED = "the network takes this layer's parameters without calling the layer, so it has no output of its own"
NO_SAMPLES = "the layer's output has no axis that counts the samples"
NO_VARIATION = "the layer's output is the same for every sample at some level, so CKA is undefined there"


@dataclass(frozen=True)
class Step:
    """One network call of a longer computation is done."""

    s: float


@dataclass(frozen=True)
class LayerActivations:
    """How the outputs of m layers change along s.

    Attributes:
        s: (t,) noise levels.
        change: (m, t) RMS of a(θ(s)) − a(θ0) at the same x_s, relative to that of a(θ0); NaN for one parameter set.
        cka: (m, t, t) between s and s′, noise and parameters both moving.
        cka_path: (m, t) between θ0 and θ(s) at the same x_s; NaN for one parameter set.
        samples: how many were looked at.
        notes: layer or statistic -> why it is NaN.
    """

    s: np.ndarray
    change: np.ndarray
    cka: np.ndarray
    cka_path: np.ndarray
    samples: int
    notes: dict[str, str]


@contextmanager
def captured(
    module: nn.Module, names: Sequence[str], reduce: Callable[[Tensor], Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Collects the outputs of submodules while the block runs; no hook is left, after exceptions neither.

    Args:
        module: usually a backbone.
        names: paths of its submodules; "." for itself.
        reduce: what to keep of an output's first tensor; the tensor itself by default.

    Yields:
        Path -> what was kept of the last call's output; modules that were not called are missing.

    Raises:
        ValueError: there is no such submodule.
    """
    modules = {path or ".": child for path, child in module.named_modules()}
    kept: dict[str, Any] = {}

    def keep(name: str, _: nn.Module, __: Any, output: Any) -> None:
        tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        if tensors:
            # A copy, for a later layer may write into it.
            kept[name] = tensors[0].detach().clone() if reduce is None else reduce(tensors[0].detach())

    with ExitStack() as stack:
        for name in names:
            if name not in modules:
                known = ", ".join(list(modules)[1:7])
                raise ValueError(f"there is no layer {name!r}; layers here are named like {known}.")
            hook = modules[name].register_forward_hook(partial(keep, name))
            stack.callback(hook.remove)
        yield kept


def by_sample(output: Tensor, samples: int, batch_dim: int = 0) -> Tensor | None:
    """The output with its samples first, (n, ...); None where no axis counts them."""
    axes = [batch_dim, *range(output.ndim)]
    axis = next((axis for axis in axes if axis < output.ndim and output.shape[axis] == samples), None)
    return None if axis is None else output.movedim(axis, 0)


@torch.no_grad()
def samples_per_batch(denoiser: Denoiser, x0: Float[Tensor, "n ..."], limit: int = MEMORY) -> int:
    """How many samples of a batch keep the outputs of all layers within `limit` bytes; at least 1.

    Args:
        denoiser: runs where it lives.
        x0: one sample is looked at.
        limit: in bytes.
    """
    layers = [layer.name for layer in layers_of(denoiser.net)]
    with captured(backbone_of(denoiser.net), layers, lambda output: output.nbytes) as sizes:
        denoiser(x0[:1].to(denoiser.device), 0.5)
    return int(max(1, limit // max(1, sum(sizes.values()))))


def layer_activations(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: Sequence[float],
    batch_size: int = 32,
) -> Iterator[Step | LayerActivations]:
    """Distance and CKA of every layer's output along s; a `Step` for each level and batch, the result at the end.

    Args:
        denoiser: of any conditioning; what asks for two parameter sets is NaN without them.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s_grid: t noise levels in [0, 1].
        batch_size: samples per network call; batches of fewer than 4 take no part in CKA.

    Raises:
        ValueError: the network's output is not finite.
    """
    layers = layers_of(denoiser.net)
    tally = _Tally(layers, list(s_grid), isinstance(denoiser.net, DPI))
    for clean, noise in zip(x0.split(batch_size), eps.split(batch_size), strict=True):
        grams = []
        for index, s in enumerate(s_grid):
            grams.append(_level(denoiser, clean, noise, index, tally))
            yield Step(s)
        tally.compare_levels(grams)
    yield tally.result(len(x0))


@torch.no_grad()
def layer_outputs(
    denoiser: Denoiser, x0: Float[Tensor, ...], eps: Float[Tensor, ...], layer: str, s_grid: Sequence[float]
) -> tuple[Tensor, Tensor, str]:
    """One layer's output for one sample along s, at θ(s) and at θ0 for the same x_s; float32, on the CPU.

    Args:
        denoiser: of any conditioning; with one parameter set both outputs are the same.
        x0: a clean sample.
        eps: its noise.
        layer: module path in the backbone.
        s_grid: t noise levels in [0, 1].

    Returns:
        Two tensors (t, ...) and "", or two empty ones and the reason.

    Raises:
        ValueError: there is no such layer.
    """
    here: list[Tensor] = []
    start: list[Tensor] = []
    for s in s_grid:
        x_s = denoiser.process.add_noise(x0[None].to(denoiser.device), eps[None].to(denoiser.device), s)
        for rows, position in ((here, nullcontext()), (start, at_theta0(denoiser.net))):
            with position, evaluating(denoiser.net), captured(backbone_of(denoiser.net), [layer]) as outputs:
                denoiser(x_s, s)
            found = by_sample(outputs[layer], 1, getattr(denoiser.net, "batch_dim", 0)) if layer in outputs else None
            if found is None:
                empty = torch.empty(len(s_grid), 0)
                return empty, empty, NO_SAMPLES if layer in outputs else NOT_CALLED
            rows.append(as_real(found).float().cpu())
    return torch.cat(here), torch.cat(start), ""


def at_theta0(net: nn.Module) -> AbstractContextManager[None]:
    """The network at λ = 0 for a while; as it is where it has one parameter set."""
    return net.using(FixedSchedule(0.0)) if isinstance(net, DPI) else nullcontext()


def gram(features: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """XXᵀ, centred so that products of two such matrices estimate HSIC without bias; NaN for fewer than 4 samples.

    That is U-centring (Székely & Rizzo, "Partial Distance Correlation with Methods for Dissimilarities", 2014, eq. 2.3).
    """
    n = len(features)
    if n < FEWEST:
        return torch.full((n, n), torch.nan)
    wide = features.to(torch.float32 if features.device.type == "mps" else torch.float64)
    scale = float(wide.square().sum(1).mean())
    wide = wide - wide.mean(0)  # changes nothing but the rounding
    kernel = (wide @ wide.T).cpu().double().fill_diagonal_(0)
    rows = kernel.sum(1) / (n - 2)
    total = kernel.sum() / ((n - 1) * (n - 2))
    kernel = (kernel - rows[:, None] - rows[None] + total).fill_diagonal_(0)
    # What rounding leaves of a constant output must not pass for variation.
    return kernel if float(kernel.square().mean().sqrt()) > CONSTANT * scale else torch.zeros_like(kernel)


def hsic(grams: Float[Tensor, "t n n"], others: Float[Tensor, "u n n"]) -> Float[Tensor, "t u"]:
    """HSIC between every two of matrices made by `gram`, without bias; it may be below zero."""
    n = grams.shape[-1]
    return grams.flatten(1) @ others.flatten(1).T / (n * (n - 3))


def cka(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"]) -> float:
    """Debiased linear CKA of two representations of the same samples: 1 where they agree up to rotation and scale.

    Args:
        x: features, one row per sample.
        y: others of the same samples.

    Returns:
        At most 1, about 0 for independent features and possibly below; NaN where one of them is constant.

    Raises:
        ValueError: different numbers of samples, or fewer than 4.
    """
    if len(x) != len(y):
        raise ValueError(f"there are {len(x)} and {len(y)} samples, but CKA compares the same ones; pass both for all.")
    if len(x) < FEWEST:
        raise ValueError(f"CKA without bias needs at least {FEWEST} samples, but there are {len(x)}; pass more.")
    found = hsic(both := torch.stack([gram(x), gram(y)]), both).numpy()
    return float(_ratio(found[:1, 1], found[:1, 0], found[1:, 1])[0])


def _ratio(cross: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)); NaN where one of these is not positive."""
    square = np.where((own > 0) & (other > 0), own * other, np.nan)
    return cross / np.sqrt(square)


@torch.no_grad()
def _level(denoiser: Denoiser, x0: Tensor, eps: Tensor, index: int, tally: _Tally) -> list[Tensor | None]:
    """The Gram matrix of each layer's output at θ(s); how far it is from θ0 goes to the tally."""
    s = tally.s[index]
    x_s = denoiser.process.add_noise(x0.to(denoiser.device), eps.to(denoiser.device), s)
    here = _features(denoiser, tally.layers, x_s, s, tally.notes)
    grams = [None if value is None else gram(value) for value in here]
    if isinstance(denoiser.net, DPI):
        with at_theta0(denoiser.net):
            start = _features(denoiser, tally.layers, x_s, s, tally.notes)
        for layer, (moved, still) in enumerate(zip(here, start, strict=True)):
            if moved is not None and still is not None:
                tally.compare_with_start(layer, index, moved, still, grams[layer])
    return grams


def _features(
    denoiser: Denoiser, layers: Sequence[Layer], x_s: Tensor, s: float, notes: dict[str, str]
) -> list[Tensor | None]:
    """The output of each layer, (n, d); None where it has none for each sample, with a note that says why."""
    names = [layer.name for layer in layers]
    with evaluating(denoiser.net), captured(backbone_of(denoiser.net), names) as outputs:
        x0_hat = denoiser(x_s, s)
    if not bool(torch.isfinite(x0_hat).all()):
        raise ValueError(
            f"the network's output at s = {s:g} is NaN or infinite; load a checkpoint from before training diverged."
        )
    rows: list[Tensor | None] = []
    for layer in layers:
        output = outputs.get(layer.name)
        found = None if output is None else by_sample(output, len(x_s), getattr(denoiser.net, "batch_dim", 0))
        if found is None:
            notes[layer.name] = NOT_CALLED if output is None else NO_SAMPLES
        rows.append(None if found is None else as_real(found).flatten(1))
    return rows


class _Tally:
    """Sums over batches."""

    def __init__(self, layers: Sequence[Layer], s: list[float], two_sets: bool) -> None:
        self.layers, self.s, self.two_sets = layers, s, two_sets
        self.notes: dict[str, str] = {}
        m, t = len(layers), len(s)
        self.difference, self.size = np.full((2, m, t), np.nan)
        self.between = np.full((m, t, t), np.nan)
        self.with_start = np.full((3, m, t), np.nan)

    def compare_with_start(self, layer: int, index: int, moved: Tensor, still: Tensor, kernel: Tensor | None) -> None:
        """Adds one layer's output at θ(s) against that at θ0."""
        _add(self.difference, (layer, index), float(torch.linalg.vector_norm(moved - still)) ** 2)
        _add(self.size, (layer, index), float(torch.linalg.vector_norm(still)) ** 2)
        if kernel is not None and len(kernel) >= FEWEST:
            both = torch.stack([kernel, gram(still)])
            found = hsic(both, both).numpy()
            _add(self.with_start, (slice(None), layer, index), found[[0, 0, 1], [1, 0, 1]])

    def compare_levels(self, grams: list[list[Tensor | None]]) -> None:
        """Adds one batch's comparison of all levels with one another."""
        for layer, column in enumerate(zip(*grams, strict=True)):
            kernels = [kernel for kernel in column if kernel is not None]
            if len(kernels) == len(self.s) and len(kernels[0]) >= FEWEST:
                stacked = torch.stack(kernels)
                _add(self.between, layer, hsic(stacked, stacked).numpy())

    def result(self, samples: int) -> LayerActivations:
        """The shares and ratios of the sums, with a note for what is NaN."""
        own = np.diagonal(self.between, axis1=1, axis2=2)
        between = _ratio(self.between, own[:, :, None], own[:, None, :])
        path = _ratio(*self.with_start)
        change = np.sqrt(self.difference / np.where(self.size > 0, self.size, np.nan))
        for layer, values in zip(self.layers, between, strict=True):
            if np.isnan(values).any() and samples >= FEWEST:
                self.notes.setdefault(layer.name, NO_VARIATION)
        if samples < FEWEST:
            self.notes["cka"] = f"CKA without bias needs at least {FEWEST} samples, but there are {samples}"
        if not self.two_sets:
            self.notes["activation_change"] = self.notes["cka_path"] = "the network has one parameter set"
        return LayerActivations(np.array(self.s), change, between, path, samples, self.notes)


def _add(sums: np.ndarray, where: Any, values: Any) -> None:
    """Adds to sums that are NaN until the first addition."""
    sums[where] = np.where(np.isnan(sums[where]), 0.0, sums[where]) + values
