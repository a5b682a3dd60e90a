"""λ(s): where on the line between θ0 and θ1 the network stands at the scalar s.

The learned curve follows section 3.2 of the DPI paper (arXiv:2511.21028): φ ∈ R^S, p = softmax(φ),
λ(s_i) = Σ_{j≤i} p_j with entry 0 pinned to 0, so that λ is monotone with λ(0) = 0 and λ(1) = 1. The paper reads the
table at the nearest of its S knots; here λ is continuous between knots unless `rounding="nearest"` asks for the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.changes import Snapshot
from dpi_core.types import Scalar, as_scalar
from dpi_core.verdicts import SATURATION_WARNING

Rounding = Literal["linear", "nearest"]
SATURATION_SHARE = 0.9


@dataclass(frozen=True)
class Saturation:
    """The shortest interval of s that holds `share` of λ's rise.

    A straight λ needs `width` = `share`; a curve that spends its range in a corner of s needs little.
    """

    low: float
    high: float
    share: float = SATURATION_SHARE

    @property
    def width(self) -> float:
        """Length of the interval in s, in [0, 1]."""
        return self.high - self.low

    @property
    def saturated(self) -> bool:
        """Whether the interval is shorter than `SATURATION_WARNING` of the range of s."""
        return self.width < SATURATION_WARNING


class LambdaSchedule(nn.Module):
    """A curve s -> λ in [0, 1], or `n_groups` curves, one for each group of layers.

    Subclasses provide `table()`: the values at equally spaced knots from s = 0 to s = 1, made of parameters and buffers, for
    it is kept until one of those changes.
    """

    rounding: Rounding = "linear"
    n_groups: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self._kept: tuple[Snapshot, Tensor] | None = None

    def table(self) -> Float[Tensor, k * g]:
        """λ at the knots, shape (k,) or (k, g)."""
        raise NotImplementedError

    def forward(self, s: Scalar) -> Float[Tensor, ...]:
        """λ(s), shape (...) or (..., g); differentiable in the curve's parameters.

        Args:
            s: in [0, 1]; a float or a tensor of any shape.

        Raises:
            ValueError: s outside [0, 1] or NaN.
        """
        value = s if isinstance(s, Tensor) else torch.tensor(float(s), dtype=torch.float64)
        as_scalar(value.reshape(-1))
        return self._read(self.table(), value)

    @torch.no_grad()
    def known(self) -> Float[Tensor, k * g]:
        """The table without a derivative, on the CPU wherever the curve lives: the same tensor until the curve changes."""
        sources = [*self.parameters(), *self.buffers()]
        if any(source.is_inference() for source in sources):  # of whose changes there is no record
            return self.table().detach().cpu()
        if self._kept is None or not self._kept[0].shows(sources):
            self._kept = Snapshot(sources), self.table().detach().cpu()  # another tensor, also of one that is a source
        return self._kept[1]

    @torch.no_grad()
    def lookup(self, s: Tensor, known: Tensor | None = None) -> Float[Tensor, ...]:
        """λ(s) without a derivative, on the CPU.

        Args:
            s: checked already, on the CPU, of any shape.
            known: what `known` has just given, where that was asked before.
        """
        return self._read(self.known() if known is None else known, s)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_kept": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LambdaSchedule:
        """Moves between devices but keeps the precision: logits in half precision would bend the curve."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)

    def _read(self, table: Tensor, s: Tensor) -> Tensor:
        position = s.to(table) * (len(table) - 1)
        if self.rounding == "nearest":
            return table[position.round().long()]
        left = position.floor().long().clamp(max=len(table) - 2)
        fraction = (position - left)[(...,) + (None,) * (table.ndim - 1)]
        return torch.lerp(table[left], table[left + 1], fraction)

    @torch.no_grad()
    def saturation(self, share: float = SATURATION_SHARE) -> Saturation | tuple[Saturation, ...]:
        """The shortest interval of s holding `share` of λ's rise; a tuple with one entry per group if there are groups.

        A curve that does not rise at all (a constant) spends nothing anywhere: its interval is [0, 1].
        """
        table = self.table().cpu().double().numpy()
        if table.ndim == 1:
            return shortest_rise(table, share)
        return tuple(shortest_rise(column, share) for column in table.T)


class SoftmaxSchedule(LambdaSchedule):
    """The learned monotone curve of the paper: cumulative softmax over `n_knots` logits φ.

    Args:
        n_knots: S, the number of knots from s = 0 to s = 1; the paper uses 1000.
        rounding: "linear" between knots, or "nearest" for the paper's table.
        n_groups: None for one curve shared by the whole network, or the number of curves.
        init_std: φ ~ N(0, init_std²); 0 starts at a straight line, the paper uses 1.
        generator: where the initial φ is drawn from; required if init_std > 0.
        least_slope: λ rises by at least so much per s everywhere, in [0, 1), so that it cannot saturate: the curve is
            blended with a straight line, (1 − least_slope)·λ + least_slope·s.
    """

    def __init__(
        self,
        n_knots: int = 1000,
        rounding: Rounding = "linear",
        n_groups: int | None = None,
        init_std: float = 0.0,
        generator: torch.Generator | None = None,
        least_slope: float = 0.0,
    ) -> None:
        super().__init__()
        if n_knots < 2:
            raise ValueError(f"n_knots is {n_knots}, but has to be at least 2, for a curve from 0 to 1.")
        if rounding not in ("linear", "nearest"):
            raise ValueError(f'rounding is {rounding!r}, but has to be "linear" or "nearest".')
        if init_std > 0 and generator is None:
            raise ValueError(f"init_std is {init_std:g}, so pass the generator that φ is to be drawn from.")
        if not 0 <= least_slope < 1:
            raise ValueError(f"least_slope is {least_slope:g}, but has to lie in [0, 1); a straight λ has slope 1.")
        self.rounding, self.n_groups, self.least_slope = rounding, n_groups, least_slope
        shape = (n_knots,) if n_groups is None else (n_knots, n_groups)
        phi = torch.zeros(shape) if init_std <= 0 else init_std * torch.randn(shape, generator=generator)
        self.phi = nn.Parameter(phi)

    def table(self) -> Float[Tensor, k * g]:
        """λ at the knots; exactly 0 at the first, exactly 1 at the last, monotone between."""
        total = torch.cumsum(torch.softmax(_wide(self.phi), dim=0), dim=0)
        curve = total[1:] / total[-1]
        if self.least_slope:
            line = torch.linspace(0, 1, len(total), dtype=curve.dtype, device=curve.device)[1:]
            curve = torch.lerp(curve, line if curve.ndim == 1 else line[:, None], self.least_slope)
        return torch.cat([torch.zeros_like(curve[:1]), curve])

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"n_knots={len(self.phi)}, rounding={self.rounding!r}, n_groups={self.n_groups}"


class FixedSchedule(LambdaSchedule):
    """A curve that is not learned: the control.

    Args:
        curve: "linear"; a constant in [0, 1]; a table of at least two values in [0, 1] at equally spaced s, or of rows of
            values, one for each group; or a function s -> λ, sampled at `n_knots` points.
        n_knots: samples taken of a function.
        rounding: "linear" between the table's values, or "nearest".

    Raises:
        ValueError: a value outside [0, 1] or a table with fewer than two entries.
    """

    values: Tensor

    def __init__(
        self,
        curve: str | float | Sequence[float] | Sequence[Sequence[float]] | Callable[[float], float] = "linear",
        n_knots: int = 1001,
        rounding: Rounding = "linear",
    ) -> None:
        super().__init__()
        # On the CPU, because the values are read here, also where tensors are made without values (torch.device("meta")).
        values = torch.tensor(_curve_values(curve, n_knots), device="cpu")
        if len(values) < 2 or values.ndim > 2:
            raise ValueError(
                f"the table of λ is {values.tolist()}, but has to be a list of at least 2 numbers, or of rows."
            )
        for value in values.flatten().tolist():
            if not 0 <= value <= 1:
                raise ValueError(f"λ = {value:g} is not in [0, 1]; θ0 stands at 0 and θ1 at 1.")
        self.rounding = rounding
        self.n_groups = values.shape[1] if values.ndim == 2 else None
        self.register_buffer("values", values.to(torch.get_default_device()))

    def table(self) -> Float[Tensor, k * g]:
        """λ at the knots."""
        return _wide(self.values)

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"n_knots={len(self.values)}, from {self.values[0].tolist()} to {self.values[-1].tolist()}"


def _wide(tensor: Tensor) -> Tensor:
    """Float64 where the device has it."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def _curve_values(
    curve: str | float | Sequence[float] | Sequence[Sequence[float]] | Callable[[float], float], n_knots: int
) -> list[float] | list[list[float]]:
    if curve == "linear":
        return [0.0, 1.0]
    if isinstance(curve, str):
        raise ValueError(f'the curve is {curve!r}, but has to be "linear", a constant, a table, or a function of s.')
    if callable(curve):
        return [float(curve(s)) for s in np.linspace(0.0, 1.0, n_knots).tolist()]
    if isinstance(curve, int | float):
        return [float(curve)] * 2
    return torch.as_tensor(curve, dtype=torch.float64, device="cpu").tolist()


def shortest_rise(table: np.ndarray, share: float = SATURATION_SHARE) -> Saturation:
    """The shortest interval of s over which a table rises by `share` of its whole rise; all of s where it falls anywhere.

    The curve is linear between knots, so the shortest interval starts or ends at a knot: both are tried.
    """
    s = np.linspace(0.0, 1.0, len(table))
    rise = table[-1] - table[0]
    if not rise > 0 or (np.diff(table) < 0).any():
        return Saturation(0.0, 1.0, share)
    level = (table - table[0]) / rise
    # Flat stretches are nudged apart so that the inverse is a function.
    strict = level + 1e-12 * s
    from_knot = np.stack([s, np.interp(level + share, strict, s, right=np.inf)])
    to_knot = np.stack([np.interp(level - share, strict, s, left=-np.inf), s])
    intervals = np.concatenate([from_knot, to_knot], axis=1)
    low, high = intervals[:, np.argmin(intervals[1] - intervals[0])]
    return Saturation(float(low), float(high), share)


@dataclass(frozen=True)
class ScalarRange:
    """Maps a scalar in physical units to s in [0, 1].

    Args:
        low: the value at s = 0.
        high: the value at s = 1.
        spacing: "linear", or "log" for positive quantities that span decades.
    """

    low: float
    high: float
    spacing: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ValueError(f"the range runs from {self.low:g} to {self.high:g}, but has to rise; swap the two.")
        if self.spacing not in ("linear", "log"):
            raise ValueError(f'spacing is {self.spacing!r}, but has to be "linear" or "log".')
        if self.spacing == "log" and not self.low > 0:
            raise ValueError(f'low = {self.low:g}, but spacing="log" needs a positive range; use spacing="linear".')

    def to_unit(self, value: Scalar) -> Tensor:
        """Physical value -> s in [0, 1].

        Raises:
            ValueError: a value outside the range.
        """
        physical = as_scalar(value, low=self.low, high=self.high).double()
        if self.spacing == "log":
            unit = (physical / self.low).log() / torch.tensor(self.high / self.low, dtype=torch.float64).log()
        else:
            unit = (physical - self.low) / (self.high - self.low)
        return unit.clamp(0.0, 1.0)

    def from_unit(self, s: Scalar) -> Tensor:
        """S in [0, 1] -> physical value."""
        unit = as_scalar(s).double()
        if self.spacing == "log":
            value = self.low * (self.high / self.low) ** unit
        else:
            value = self.low + (self.high - self.low) * unit
        return value.clamp(self.low, self.high)  # rounding leads past the end
