"""What the layers' view draws: the table of all layers, and one of them in detail, packed in the scrubber's byte format.

Quantisation errors: activations become int16, at most half of `max|value| / 32767`; everything else is float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.components.scrubber.payload import Arrays, seal

__all__ = ["LayerDetail", "LayerTable", "Statistic", "pack_detail", "pack_table"]

FULL_COLOUR = 0.995
"""Share of the values that lie within the range of colours."""

COLOURED = (0.05, 0.95)
"""Noise levels that the colours are made for: at the ends, where nothing or everything is noise, ratios grow without bound."""

ACTIVATION_ASPECT = 2.4
"""Width over height of the place where activations are shown."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """One number for each layer and noise level.

    Attributes:
        key: names it in links and files.
        label: for people.
        unit: of its values, or "".
        caption: how to read it, in one sentence.
        s: (p,) noise levels, rising in [0, 1]; (1,) where it does not depend on s.
        values: (m, p); NaN where there is none.
        diverging: whether zero is the middle of the colours.
        largest_first: how layers are ordered by it.
    """

    key: str
    label: str
    unit: str
    caption: str
    s: np.ndarray
    values: np.ndarray
    diverging: bool = False
    largest_first: bool = True

    @property
    def range(self) -> tuple[float, float]:
        """Values at both ends of the colours, from the levels of `COLOURED`; what lies beyond has the colour of the end."""
        inside = (self.s >= COLOURED[0]) & (self.s <= COLOURED[1])
        finite = self.values[:, inside][np.isfinite(self.values[:, inside])]
        if not finite.size:
            finite = self.values[np.isfinite(self.values)]
        if not finite.size:
            return (-1.0, 1.0) if self.diverging else (0.0, 1.0)
        if self.diverging:
            reach = float(np.quantile(np.abs(finite), FULL_COLOUR)) or 1.0
            return -reach, reach
        low, high = (float(np.quantile(finite, share)) for share in (1 - FULL_COLOUR, FULL_COLOUR))
        if self.largest_first:
            low = min(low, 0.0)
        else:
            high = max(high, 1.0)
        return (low, high) if low < high else (low, low + 1.0)


@dataclass(frozen=True, eq=False)
class LayerTable:
    """All layers of a network, by depth.

    Attributes:
        title: names the model in exports.
        names: module path of each of m layers.
        stages: the stage it belongs to; the beginning of its path.
        kinds: class of each.
        sizes: parameters of each.
        statistics: at least one.
        samples: how many inputs there are to choose from.
        pictures: (samples, h, w, c) of them, uint8, c 1 or 3; or None.

    Raises:
        ValueError: if a length or a shape is not as above.
    """

    title: str
    names: list[str]
    stages: list[str]
    kinds: list[str]
    sizes: list[int]
    statistics: tuple[Statistic, ...]
    samples: int = 0
    pictures: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        if not self.names or not self.statistics:
            raise ValueError(
                f"table: {len(self.names)} layers and {len(self.statistics)} statistics; expected one of each; leave it out"
            )
        for field in ("stages", "kinds", "sizes"):
            if len(getattr(self, field)) != len(self.names):
                raise ValueError(f"table: {field} has {len(getattr(self, field))} entries; expected {len(self.names)}")
        for each in self.statistics:
            if each.values.shape != (len(self.names), len(each.s)):
                expected = (len(self.names), len(each.s))
                raise ValueError(f"table: {each.key} has shape {each.values.shape}; expected {expected}; recompute it")


@dataclass(frozen=True, eq=False)
class LayerDetail:
    """One layer: a weight of it and what it puts out along s.

    Attributes:
        layer: its module path, as in the table.
        sample: which input.
        about: one line under its name.
        weight_caption: one sentence.
        theta0: filters (o, i, h, w), a matrix (o, i) or a vector (o,).
        theta1: the same; None for a network with one parameter set.
        lam_s: (q,) scalars; None for a network with one parameter set.
        lam: (q,) λ there.
        s: (t,) noise levels of the activations.
        native: t texts, the literature's time.
        activations: (t, c, h, w), (t, rows, columns) or (t, c); None where there are none.
        activations0: the same at θ0; None for a network with one parameter set.
        activation_caption: one sentence; says why there are none.

    Raises:
        ValueError: if a shape is not as above, or a number is not finite.
    """

    layer: str
    sample: int
    about: str
    weight_caption: str
    theta0: np.ndarray
    theta1: np.ndarray | None
    lam_s: np.ndarray | None
    lam: np.ndarray | None
    s: np.ndarray
    native: tuple[str, ...]
    activations: np.ndarray | None
    activations0: np.ndarray | None
    activation_caption: str

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        if self.theta0.ndim not in (1, 2, 4) or (self.theta1 is not None and self.theta1.shape != self.theta0.shape):
            other = None if self.theta1 is None else self.theta1.shape
            raise ValueError(
                f"{self.layer}: θ0 has shape {self.theta0.shape}, θ1 {other}; expected filters or a matrix"
            )
        for name in ("activations", "activations0"):
            values = getattr(self, name)
            if values is not None and (len(values) != len(self.s) or values.ndim not in (2, 3, 4)):
                raise ValueError(f"{self.layer}: {name} has shape {values.shape}; expected {len(self.s)} frames first")
        for name in ("theta0", "theta1", "activations", "activations0"):
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{self.layer}: {name} holds NaN or infinity; check the network's weights")


def pack_table(table: LayerTable) -> bytes:
    """The table in the scrubber's byte format."""
    arrays = Arrays()
    statistics = []
    for each in table.statistics:
        arrays.add_floats(f"statistics/{each.key}", each.values)
        statistics.append(
            {name: getattr(each, name) for name in ("key", "label", "unit", "caption", "diverging", "largest_first")}
            | {"s": [float(s) for s in each.s], "range": each.range}
        )
    if table.pictures is not None:
        arrays.add_bytes("samples", table.pictures)
    header = {name: getattr(table, name) for name in ("title", "names", "stages", "kinds", "samples")}
    return seal(header | {"sizes": [int(size) for size in table.sizes], "statistics": statistics}, arrays)


def pack_detail(detail: LayerDetail) -> bytes:
    """The layer in the scrubber's byte format."""
    arrays = Arrays()
    arrays.add_floats("s", detail.s)
    for name in ("theta0", "theta1", "lam_s", "lam"):
        if getattr(detail, name) is not None:
            arrays.add_floats(name, getattr(detail, name))
    header: dict[str, Any] = {
        name: getattr(detail, name) for name in ("layer", "sample", "about", "weight_caption", "activation_caption")
    }
    header |= {"native": list(detail.native), "weight_tiles": _weight_tiles(detail.theta0.shape)}
    header["weight_reach"] = _reach(*(w for w in (detail.theta0, detail.theta1) if w is not None))
    if detail.activations is not None:
        header["activation_tiles"] = _activation_tiles(detail.activations.shape[1:])
        header["activation_reach"] = _reach(detail.activations)
        arrays.add_int16("activations", detail.activations)
        if detail.activations0 is not None:
            header["change_reach"] = _reach(detail.activations - detail.activations0)
            arrays.add_int16("activations0", detail.activations0)
    return seal(header, arrays)


def _reach(*values: np.ndarray) -> float:
    """Full colour on both sides of zero."""
    return float(np.quantile(np.abs(np.concatenate([each.ravel() for each in values])), FULL_COLOUR)) or 1.0


def _weight_tiles(shape: tuple[int, ...]) -> dict[str, int]:
    """A row for each output and a column for each input; a vector, and filters in one row or column, are wrapped."""
    outputs, inputs, height, width = (*shape, 1, 1, 1)[:4]
    if min(outputs, inputs) == 1:
        return _wrapped(max(outputs, inputs), height, width, 1.0)
    return _tiles(outputs, inputs, height, width)


def _activation_tiles(shape: tuple[int, ...]) -> dict[str, int]:
    """Channels as tiles, filled row by row; a matrix as it is; a vector wrapped into rows."""
    if len(shape) == 3:
        return _wrapped(*shape, ACTIVATION_ASPECT)
    return _tiles(*shape, 1, 1) if len(shape) == 2 else _wrapped(shape[0], 1, 1, ACTIVATION_ASPECT)


def _wrapped(count: int, height: int, width: int, aspect: float) -> dict[str, int]:
    columns = min(count, max(1, round(math.sqrt(count * aspect * height / width))))
    return _tiles(-(-count // columns), columns, height, width) | {"count": count}


def _tiles(rows: int, columns: int, height: int, width: int) -> dict[str, int]:
    return {"rows": rows, "columns": columns, "height": height, "width": width, "count": rows * columns}
