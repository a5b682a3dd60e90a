"""What lies between θ0 and θ1: distance, angle, the norms along the path, spectra and histograms.

With one λ for all parameters θ(s) − θ0 = λ(s)(θ1 − θ0), so ‖θ(s) − θ0‖ = λ(s)‖θ1 − θ0‖ says nothing beyond λ itself. The
distance is measured all the same, and its residual against the identity comes with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule

HISTOGRAM_BINS = 61


@dataclass(frozen=True)
class Distance:
    """θ0 and θ1 of some parameters, as vectors of real numbers.

    Attributes:
        name: of the parameter, the layer, the stage, or "total".
        numel: real numbers in one set.
        norm0: ‖θ0‖.
        norm1: ‖θ1‖.
        distance: ‖θ1 − θ0‖, measured on the difference.
        dot: <θ0, θ1>.
    """

    name: str
    numel: int
    norm0: float
    norm1: float
    distance: float
    dot: float

    @property
    def relative(self) -> float:
        """‖θ1 − θ0‖ / ‖θ0‖; NaN where both are zero."""
        if self.norm0 == 0:
            return math.inf if self.distance > 0 else math.nan
        return self.distance / self.norm0

    @property
    def angle(self) -> float:
        """Between θ0 and θ1, in degrees from 0 to 180; NaN where one of them is zero."""
        if self.norm0 == 0 or self.norm1 == 0:
            return math.nan
        # The half-angle formula keeps its digits where both sets are nearly parallel; an arc cosine loses them.
        gap = (self.distance**2 - (self.norm0 - self.norm1) ** 2) / (4 * self.norm0 * self.norm1)
        return math.degrees(2 * math.asin(math.sqrt(min(1.0, max(0.0, gap)))))

    @property
    def dip(self) -> float:
        """How far ‖θ‖ at λ = 1/2 falls short of the mean of ‖θ0‖ and ‖θ1‖, as a share of it; NaN where both are zero."""
        ends = (self.norm0 + self.norm1) / 2
        return 1 - self.norm_at(0.5) / ends if ends > 0 else math.nan

    def norm_at(self, lam: float) -> float:
        """‖(1 − λ)θ0 + λθ1‖, in closed form."""
        start, end = 1 - lam, lam
        square = (start * self.norm0) ** 2 + 2 * start * end * self.dot + (end * self.norm1) ** 2
        return math.sqrt(max(square, 0.0))

    def angle_at(self, lam: float) -> float:
        """Between θ0 and (1 − λ)θ0 + λθ1, in degrees from 0 to 180; NaN where one of them is zero."""
        here, dot = self.norm_at(lam), (1 - lam) * self.norm0**2 + lam * self.dot
        return Distance(self.name, self.numel, self.norm0, here, lam * self.distance, dot).angle


@dataclass(frozen=True)
class WeightDistances:
    """Distances of every parameter in scope, of the layers and stages they form, and of all together."""

    parameters: tuple[Distance, ...]
    layers: tuple[Distance, ...]
    stages: tuple[Distance, ...]
    total: Distance


@dataclass(frozen=True)
class WeightPath:
    """Where the parameters stand along s, measured on θ(s) itself.

    Attributes:
        s: (t,) scalars.
        lam: (t,), or (t, g) with groups.
        moved: (t,) ‖θ(s) − θ0‖.
        norm: (t,) ‖θ(s)‖.
        identity: (t,) √(Σ_g λ_g(s)² ‖θ1 − θ0‖_g²), which is λ(s)‖θ1 − θ0‖ with one λ.
        residual: largest |moved − identity|, relative to ‖θ1 − θ0‖.
    """

    s: np.ndarray
    lam: np.ndarray
    moved: np.ndarray
    norm: np.ndarray
    identity: np.ndarray
    residual: float


@dataclass(frozen=True)
class Spectrum:
    """Singular values of one weight along the path, unfolded to (first axis, all others).

    Attributes:
        name: of the parameter.
        lam: (q,) positions on the path.
        singular_values: (q, r) in descending order.
    """

    name: str
    lam: np.ndarray
    singular_values: np.ndarray

    @property
    def spectral_norm(self) -> np.ndarray:
        """(q,) the largest singular value."""
        return self.singular_values[:, 0]

    @property
    def stable_rank(self) -> np.ndarray:
        """(q,) ‖W‖_F² / σ_max², between 1 and r; NaN for a zero weight."""
        largest = self.spectral_norm**2
        squares = (self.singular_values**2).sum(axis=1)
        return np.divide(squares, largest, out=np.full_like(largest, np.nan), where=largest > 0)


@dataclass(frozen=True)
class Histogram:
    """Counts of the entries of θ1 − θ0.

    Attributes:
        name: of the layer, or "total".
        edges: (b + 1,) symmetrical about zero.
        counts: (b,).
    """

    name: str
    edges: np.ndarray
    counts: np.ndarray


def two_sets(net: nn.Module) -> DPI:
    """The network itself, if it has two parameter sets.

    Raises:
        ValueError: it has one.
    """
    if not isinstance(net, DPI):
        raise ValueError(f"{type(net).__name__} has one parameter set, so there is no λ to move; choose a DPI model.")
    return net


def layer_of(parameter: str) -> str:
    """The module path of a parameter's name; "." for the backbone itself."""
    return parameter.rpartition(".")[0] or "."


def stage_of(layer: str) -> str:
    """The part of a module path that names a stage: up to its first number, or its first word."""
    parts = layer.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1]) if numbers else parts[0] or "."


def weight_distances(net: nn.Module) -> WeightDistances:
    """‖θ1 − θ0‖, norms and angle for each parameter, layer, stage and in total.

    Args:
        net: its parameters may lie anywhere; sums are taken in float64 on the CPU.

    Raises:
        ValueError: a parameter is not finite, or the network has no two parameter sets.
    """
    theta0, theta1 = _finite_sets(net)
    parameters = tuple(_distance(name, theta0[name], theta1[name]) for name in theta0)
    return WeightDistances(
        parameters,
        _joined(parameters, layer_of),
        _joined(parameters, lambda name: stage_of(layer_of(name))),
        _join("total", parameters),
    )


@torch.no_grad()
def weight_path(net: nn.Module, s_grid: Sequence[float]) -> WeightPath:
    """‖θ(s) − θ0‖ and ‖θ(s)‖ along s, measured, with the residual against the closed form.

    Args:
        net: with one λ, or one for each group.
        s_grid: t scalars in the units of the network.

    Raises:
        ValueError: as `weight_distances`.
    """
    net = two_sets(net)
    theta0, theta1 = _finite_sets(net)
    s = torch.tensor(list(s_grid), dtype=torch.float64)
    lam = net.lam(s).double().cpu()
    start = _flat(theta0.values())
    moved, norm = [], []
    for value in s.tolist():
        here = _flat(v.detach() for v in net.effective_parameters(value).values())
        moved.append(_norm(here - start))
        norm.append(_norm(here))
    group_of = {segment.name: segment.group for segment in net._segments}
    per_group = np.zeros(len(net.group_names))
    for name in theta0:
        per_group[group_of[name]] += _norm(_real(theta1[name]) - _real(theta0[name])) ** 2
    curves = lam.numpy().reshape(len(s), -1) * np.ones(len(net.group_names))
    identity = np.sqrt((curves**2 * per_group).sum(axis=1))
    length = math.sqrt(per_group.sum())
    residual = float(np.abs(np.array(moved) - identity).max()) / length if length > 0 else 0.0
    return WeightPath(s.numpy(), lam.numpy(), np.array(moved), np.array(norm), identity, residual)


@torch.no_grad()
def spectra(net: nn.Module, lam_grid: Sequence[float]) -> Iterator[Spectrum]:
    """Singular values of every weight with at least two axes at each λ, parameter by parameter.

    Args:
        net: one λ is given to all its groups.
        lam_grid: q positions in [0, 1].

    Raises:
        ValueError: as `weight_distances`, or a λ outside [0, 1].
    """
    theta0, theta1 = _finite_sets(net)
    schedules = [FixedSchedule(float(lam)) for lam in lam_grid]  # checks the range
    positions = np.array([float(schedule.table()[0]) for schedule in schedules])
    for name, start in theta0.items():
        if start.ndim < 2 or min(start.shape) == 0:
            continue
        rows = [torch.linalg.svdvals(_wide(torch.lerp(start, theta1[name], lam)).flatten(1)) for lam in positions]
        yield Spectrum(name, positions, torch.stack(rows).numpy())


def histograms(net: nn.Module, bins: int = HISTOGRAM_BINS) -> tuple[Histogram, ...]:
    """Histograms of θ1 − θ0: in total first, then layer by layer, each over its own symmetrical range.

    Args:
        net: its parameters in scope.
        bins: an odd number has a bin about zero.

    Raises:
        ValueError: as `weight_distances`.
    """
    theta0, theta1 = _finite_sets(net)
    apart = {name: (_real(theta1[name]) - _real(theta0[name])).numpy() for name in theta0}
    layers: dict[str, list[np.ndarray]] = {}
    for name, values in apart.items():
        layers.setdefault(layer_of(name), []).append(values)
    all_together = [values for group in layers.values() for values in group]
    return tuple(_histogram(name, values, bins) for name, values in [("total", all_together), *layers.items()])


def _histogram(name: str, values: list[np.ndarray], bins: int) -> Histogram:
    flat = np.concatenate(values)
    reach = float(np.abs(flat).max(initial=0.0)) or 1.0
    counts, edges = np.histogram(flat, bins=bins, range=(-reach, reach))
    return Histogram(name, edges, counts)


def _finite_sets(net: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """θ0 and θ1 in the order of the backbone, on the CPU; refused where something in them is not finite."""
    sets = []
    net = two_sets(net)
    for label, parameters in (("θ0", net.theta0), ("θ1", net.theta1)):
        here = {name: value.detach().cpu() for name, value in parameters.items()}
        for name, value in here.items():
            if not bool(torch.isfinite(value).all()):
                raise ValueError(
                    f"the parameter {name!r} of {label} holds NaN or infinity; load a checkpoint from before the"
                    " training diverged."
                )
        sets.append(here)
    return sets[0], sets[1]


def _distance(name: str, start: Tensor, end: Tensor) -> Distance:
    a, b = _real(start), _real(end)
    return Distance(name, a.numel(), _norm(a), _norm(b), _norm(b - a), float(torch.dot(a, b)))


def _joined(parameters: tuple[Distance, ...], key: Callable[[str], str]) -> tuple[Distance, ...]:
    """Parts under one name each, in the order of their first appearance."""
    named = [(key(part.name), part) for part in parameters]
    order = {name: i for i, name in reversed(list(enumerate(name for name, _ in named)))}
    named.sort(key=lambda pair: order[pair[0]])
    return tuple(_join(name, tuple(part for _, part in pairs)) for name, pairs in groupby(named, lambda pair: pair[0]))


def _join(name: str, parts: tuple[Distance, ...]) -> Distance:
    """Several parameters as one vector."""
    return Distance(
        name,
        sum(part.numel for part in parts),
        math.hypot(*(part.norm0 for part in parts)),
        math.hypot(*(part.norm1 for part in parts)),
        math.hypot(*(part.distance for part in parts)),
        math.fsum(part.dot for part in parts),
    )


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _real(tensor: Tensor) -> Tensor:
    """A parameter as one vector of real float64 numbers."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double().flatten()


def _flat(parameters: Iterable[Tensor]) -> Tensor:
    return torch.cat([_real(parameter.cpu()) for parameter in parameters])


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector))
