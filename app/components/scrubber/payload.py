"""What the scrubber draws, and how it travels to the browser.

A `Sweep` holds one network's answers along the scalar s; a `Pad` holds them over (noise level, parameter position).
`pack` turns either into bytes that a browser decodes without a copy per frame:

    u32 little-endian header length | JSON header, padded to 4 bytes | raw arrays, each aligned to 4 bytes

The header lists every array as name, dtype, shape, byte offset in the body, and the affine map back to its unit,
`value = raw * scale + zero`. Noised inputs and residuals are not sent: the browser computes x_s = α x0 + σ ε and
x̂0 − x0 itself.

Quantisation errors, in the data's own unit:

* images (values in [-1, 1], clipped) become uint8: at most 1/255;
* points and noise become int16: at most half of `max|value| / 32767`.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Beside", "Chart", "Curve", "Pad", "Sweep", "blob_hash", "pack"]

Array: TypeAlias = NDArray[Any]

INT16_MAX = 32767
RESIDUAL_RANGES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
RESIDUAL_SHARE = 0.98
NICE_EXTENTS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
HEX_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a chart against s.

    Attributes:
        name: what the legend says.
        s: (K,) positions in [0, 1], increasing.
        y: (K,) values in the chart's unit; where one is not finite the line has a gap.
        low: (K,) lower end of the 95 % interval, or None.
        high: (K,) upper end of the 95 % interval, or None.
        role: "this" for the model on show, which is drawn emphasised, else "other".
        dashed: whether the line is dashed.
        color: "#rrggbb", or None to take the next one of the palette.

    Raises:
        ValueError: if a shape, the role or the colour is not as above.
    """

    name: str
    s: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    role: Literal["this", "other"] = "other"
    dashed: bool = False
    color: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        where = f"curve {self.name!r}"
        s = _check_scalar_grid(f"{where}: s", self.s)
        for name in ("y", "low", "high"):
            values = getattr(self, name)
            if values is not None:
                _check_shape(f"{where}: {name}", np.asarray(values), s.shape, "one value for each s")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"{where}: only one end of the interval is given; give both low and high, or neither")
        if self.role not in ("this", "other"):
            raise ValueError(f"{where}: role is {self.role!r}; expected 'this' or 'other'; pick one of them")
        if self.color is not None and not HEX_COLOUR.fullmatch(self.color):
            raise ValueError(f"{where}: color is {self.color!r}; expected '#rrggbb' or None; write it in hexadecimal")


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves against s that share one axis.

    Attributes:
        title: the heading.
        y_label: quantity and unit, for example "PSNR (dB)".
        curves: the lines, at least one.
        caption: one sentence that says how to read the chart.

    Raises:
        ValueError: if there is no curve.
    """

    title: str
    y_label: str
    curves: tuple[Curve, ...]
    caption: str = ""

    def __post_init__(self) -> None:
        """Refuse an empty chart."""
        if not self.curves:
            raise ValueError(f"chart {self.title!r}: curves is {self.curves!r}; expected at least one; leave it out")


@dataclass(frozen=True, eq=False)
class Beside:
    """A second network's answers for the inputs, the noise and the s of a sweep.

    Attributes:
        name: of the network.
        lam: (T,) its λ; None for a network with one parameter set.
        x0_hat: in the shape and unit of the sweep's.
        note: a sentence under its pictures, or "".
    """

    name: str
    lam: ArrayLike | None
    x0_hat: Array
    note: str = ""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A network's answers for N inputs at T values of s.

    Attributes:
        kind: "image" or "points".
        s: (T,) increasing, in [0, 1]; 0 is clean, 1 is noise.
        lam: (T,) the position λ of the parameters at each s, in [0, 1]; None for a network with one parameter set.
        alpha: (T,) signal factor of x_s = α x0 + σ ε.
        sigma: (T,) noise factor, not negative.
        native: T texts, what each s is in the process's own time, for example "DDPM step 580".
        clean: (N, H, W, C) images in [-1, 1] with C 1 or 3, or uint8 with 0..255 for [-1, 1]; or (N, 2) points.
        noise: ε, float, shaped as `clean`.
        x0_hat: (T, N, H, W, C) or (T, N, 2), in the unit of `clean`.
        charts: shown beside λ(s); with several, a menu switches between them.
        title: names the model and the data in exports.
        beside: a second network under the same cursor, or None.

    Raises:
        ValueError: if a shape or a value is not as above.
    """

    kind: Literal["image", "points"]
    s: ArrayLike
    lam: ArrayLike | None
    alpha: ArrayLike
    sigma: ArrayLike
    native: tuple[str, ...] | list[str]
    clean: Array
    noise: Array
    x0_hat: Array
    charts: tuple[Chart, ...] = ()
    title: str = ""
    beside: Beside | None = None

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        s = _check_scalar_grid("sweep: s", self.s)
        _check_inputs(self.kind, self.clean)
        _check_answers("sweep", s, self.lam, self.x0_hat, self.clean)
        if self.beside is not None:
            _check_answers("sweep: beside", s, self.beside.lam, self.beside.x0_hat, self.clean)
        _check_process("sweep", s, self.alpha, self.sigma, self.native)
        _check_shape("sweep: noise", self.noise, self.clean.shape, "the shape of clean")
        _check_finite("sweep: noise", self.noise)


@dataclass(frozen=True, eq=False)
class Pad:
    """A network's answers over noise level s and parameter position λ, for M of a sweep's inputs.

    Attributes:
        s: (P,) increasing, in [0, 1]: the noise level of the input.
        lam: (Q,) increasing, in [0, 1]: the position of the parameters.
        score: (Q, P) how good x̂0 is; where one is not finite the cell stays empty.
        learned: (P,) the learned λ at each s.
        x0_hat: (Q, P, M, H, W, C) or (Q, P, M, 2), in the unit of the sweep's `clean`.
        inputs: M indices into the sweep's inputs.
        alpha: (P,) signal factor at each s.
        sigma: (P,) noise factor at each s.
        native: P texts, as in `Sweep`.
        label: what `score` is.
        unit: its unit.
        higher_is_better: whether a larger score is better; the brighter colour is always the better one.

    Raises:
        ValueError: if a shape or a value is not as above.
    """

    s: ArrayLike
    lam: ArrayLike
    score: Array
    learned: ArrayLike
    x0_hat: Array
    inputs: tuple[int, ...] | list[int]
    alpha: ArrayLike
    sigma: ArrayLike
    native: tuple[str, ...] | list[str]
    label: str = "PSNR"
    unit: str = "dB"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        s = _check_scalar_grid("pad: s", self.s)
        lam = _check_scalar_grid("pad: lam", self.lam)
        _check_shape("pad: score", self.score, (len(lam), len(s)), "(Q, P): one row for each λ, one column for each s")
        learned = _check_shape("pad: learned", self.learned, s.shape, "one value for each s")
        _check_unit_interval("pad: learned", learned)
        _check_process("pad", s, self.alpha, self.sigma, self.native)
        count = len(self.inputs)
        if count == 0 or min(self.inputs) < 0:
            raise ValueError(
                f"pad: inputs is {self.inputs!r}; expected indices into the sweep's inputs; name at least one"
            )
        item_shape = np.shape(self.x0_hat)[3:]
        _check_shape("pad: x0_hat", self.x0_hat, (len(lam), len(s), count, *item_shape), "(Q, P, M, *item)")
        _check_item("pad: x0_hat", item_shape)
        _check_finite("pad: x0_hat", self.x0_hat)


def pack(figure: Sweep | Pad) -> bytes:
    """Return `figure` in the byte format that the module's docstring describes."""
    return seal(*(_sweep_parts(figure) if isinstance(figure, Sweep) else _pad_parts(figure)))


def seal(header: dict[str, Any], arrays: Arrays) -> bytes:
    """Return a header and its arrays in the byte format, under the hash of their content."""
    body = arrays.body()
    header["arrays"] = arrays.specs
    digest = hashlib.sha256(to_json(header) + body).hexdigest()[:20]
    encoded = to_json({"hash": digest, **header})
    encoded += b" " * (-len(encoded) % 4)
    return struct.pack("<I", len(encoded)) + encoded + body


def blob_hash(blob: bytes) -> str:
    """Return the content hash that `pack` wrote into the header of `blob`.

    Raises:
        ValueError: if `blob` did not come from `pack`.
    """
    try:
        (length,) = struct.unpack_from("<I", blob)
        return str(json.loads(blob[4 : 4 + length])["hash"])
    except (struct.error, ValueError, KeyError, TypeError) as error:
        start = bytes(blob[:8])
        raise ValueError(f"the blob starts with {start!r}; expected the bytes that pack() returns; pack it") from error


@dataclass
class Arrays:
    """Collects arrays one after the other and remembers where each one lies."""

    specs: list[dict[str, Any]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, name: str, values: Array, scale: float = 1.0, zero: float = 0.0) -> None:
        """Append `values`, little-endian and aligned to 4 bytes."""
        raw = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
        spec = {"name": name, "dtype": values.dtype.name, "shape": values.shape, "offset": self.size}
        self.specs.append({**spec, "scale": scale, "zero": zero})
        padding = b"\0" * (-len(raw) % 4)
        self.chunks += [raw, padding]
        self.size += len(raw) + len(padding)

    def add_floats(self, name: str, values: ArrayLike) -> None:
        """Append `values` as float32."""
        self.add(name, np.asarray(values, dtype=np.float32))

    def add_bytes(self, name: str, values: Array) -> Array:
        """Append images as uint8 and return what was stored."""
        stored = _to_bytes(values)
        self.add(name, stored, scale=1 / 127.5, zero=-1.0)
        return stored

    def add_int16(self, name: str, values: Array) -> None:
        """Append `values` as int16 with a scale of their own."""
        largest = float(np.abs(values).max())
        scale = (largest or 1.0) / INT16_MAX
        self.add(name, np.rint(np.asarray(values, dtype=np.float64) / scale).astype(np.int16), scale=scale)

    def body(self) -> bytes:
        """Return all arrays as one byte string."""
        return b"".join(self.chunks)


def _sweep_parts(sweep: Sweep) -> tuple[dict[str, Any], Arrays]:
    """Return the header and the arrays of a sweep."""
    arrays = Arrays()
    arrays.add_floats("s", np.clip(sweep.s, 0.0, 1.0))
    if sweep.lam is not None:
        arrays.add_floats("lam", np.clip(sweep.lam, 0.0, 1.0))
    for name in ("alpha", "sigma"):
        arrays.add_floats(name, getattr(sweep, name))
    header: dict[str, Any] = {"type": "sweep", "kind": sweep.kind, "title": sweep.title, "native": list(sweep.native)}
    arrays.add_int16("noise", sweep.noise)
    if sweep.kind == "image":
        clean = arrays.add_bytes("clean", sweep.clean)
        x0_hat = arrays.add_bytes("x0_hat", sweep.x0_hat)
        header["residual_range"] = _residual_range(clean, x0_hat)
    else:
        arrays.add_int16("clean", sweep.clean)
        arrays.add_int16("x0_hat", sweep.x0_hat)
        header["extent"] = _extent(sweep)
    header["beside"] = None if sweep.beside is None else _beside_header(sweep.beside, sweep.kind, arrays)
    header["charts"] = [_chart_header(f"charts/{i}", chart, arrays) for i, chart in enumerate(sweep.charts)]
    return header, arrays


def _pad_parts(pad: Pad) -> tuple[dict[str, Any], Arrays]:
    """Return the header and the arrays of a pad."""
    arrays = Arrays()
    for name in ("s", "lam", "learned"):
        arrays.add_floats(name, np.clip(getattr(pad, name), 0.0, 1.0))
    for name in ("score", "alpha", "sigma"):
        arrays.add_floats(name, getattr(pad, name))
    kind = _item_kind(np.shape(pad.x0_hat)[3:])
    if kind == "image":
        arrays.add_bytes("x0_hat", pad.x0_hat)
    else:
        arrays.add_int16("x0_hat", pad.x0_hat)
    header = {
        "type": "pad",
        "kind": kind,
        "native": list(pad.native),
        "inputs": [int(index) for index in pad.inputs],
        "label": pad.label,
        "unit": pad.unit,
        "higher_is_better": pad.higher_is_better,
    }
    return header, arrays


def _beside_header(beside: Beside, kind: str, arrays: Arrays) -> dict[str, Any]:
    """Return the header of a second network and append its arrays."""
    if beside.lam is not None:
        arrays.add_floats("beside/lam", np.clip(beside.lam, 0.0, 1.0))
    if kind == "image":
        arrays.add_bytes("beside/x0_hat", beside.x0_hat)
    else:
        arrays.add_int16("beside/x0_hat", beside.x0_hat)
    return {"name": beside.name, "note": beside.note}


def _chart_header(prefix: str, chart: Chart, arrays: Arrays) -> dict[str, Any]:
    """Return a chart's header and append its curves to `arrays`."""
    curves = []
    for i, curve in enumerate(chart.curves):
        name = f"{prefix}/curves/{i}"
        for part in ("s", "y", "low", "high"):
            if getattr(curve, part) is not None:
                arrays.add_floats(f"{name}/{part}", getattr(curve, part))
        style = {"role": curve.role, "dashed": curve.dashed, "color": curve.color}
        curves.append({"name": curve.name, "arrays": name, **style})
    return {"title": chart.title, "y_label": chart.y_label, "caption": chart.caption, "curves": curves}


def to_json(header: dict[str, Any]) -> bytes:
    """Return `header` as compact UTF-8 JSON."""
    return json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _to_bytes(images: Array) -> Array:
    """Return images in [-1, 1] as uint8; uint8 comes back unchanged."""
    if images.dtype == np.uint8:
        return images
    return np.rint((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def _residual_range(clean: Array, x0_hat: Array) -> float:
    """Return the round half-range that holds 98 % of the residuals shown, in the unit of the images."""
    counts = np.zeros(256, dtype=np.int64)
    for frame in x0_hat:
        shown = (frame.astype(np.int16) - clean).mean(axis=-1)
        counts += np.bincount(np.rint(np.abs(shown)).astype(np.intp).ravel(), minlength=256)
    quantile = int(np.searchsorted(np.cumsum(counts), RESIDUAL_SHARE * counts.sum())) / 127.5
    return next((size for size in RESIDUAL_RANGES if size >= quantile), RESIDUAL_RANGES[-1])


def _extent(sweep: Sweep) -> float:
    """Return the round half-width of the square that holds 99.9 % of every panel's coordinates."""
    # The noised points are drawn divided by √(α² + σ²), so they lie within the spread of x0 and ε.
    beside = () if sweep.beside is None else (sweep.beside.x0_hat,)
    panels = (sweep.clean, sweep.noise, sweep.x0_hat, *beside)
    largest = max(float(np.quantile(np.abs(panel), 0.999)) for panel in panels)
    decade = 10.0 ** np.floor(np.log10(largest or 1.0))
    return next(float(size * decade) for size in NICE_EXTENTS if size * decade >= largest * (1 - 1e-9))


def _check_shape(name: str, values: ArrayLike, expected: tuple[int, ...], meaning: str) -> Array:
    """Return `values` as an array, or refuse it unless its shape is `expected`."""
    array = np.asarray(values)
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}; expected {expected}, {meaning}; reshape or recompute it")
    return array


def _check_finite(name: str, values: ArrayLike) -> None:
    """Refuse values that are not finite."""
    array = np.asarray(values)
    if array.dtype != np.uint8 and not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        raise ValueError(f"{name} contains {bad}; expected finite numbers; check the network's output and its weights")


def _check_unit_interval(name: str, values: Array) -> None:
    """Refuse values outside [0, 1]."""
    _check_finite(name, values)
    # A sum of float32 steps may overshoot 1 by its rounding; pack() clips that.
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        lowest, highest = float(values.min()), float(values.max())
        raise ValueError(f"{name} spans [{lowest:g}, {highest:g}]; expected values in [0, 1]; map it to that range")


def _check_scalar_grid(name: str, values: ArrayLike) -> Array:
    """Return `values` as an array, or refuse it unless it is increasing in [0, 1] with at least two entries."""
    array = np.asarray(values)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"{name} has shape {array.shape}; expected (K,) with K >= 2; pass a one-dimensional grid")
    _check_unit_interval(name, array)
    if not (np.diff(array) > 0).all():
        start = np.array2string(array[:6], precision=3)
        raise ValueError(f"{name} starts {start}; expected strictly increasing values; sort it and drop repetitions")
    return array


def _check_answers(where: str, s: Array, lam: ArrayLike | None, x0_hat: Array, clean: Array) -> None:
    """Refuse a network's λ and x̂0 that do not go with s and the inputs."""
    if lam is not None:
        _check_unit_interval(f"{where}: lam", _check_shape(f"{where}: lam", lam, s.shape, "one value for each s"))
    _check_shape(f"{where}: x0_hat", x0_hat, (len(s), *clean.shape), "(T, *clean.shape)")
    _check_finite(f"{where}: x0_hat", x0_hat)


def _check_process(
    where: str, s: Array, alpha: ArrayLike, sigma: ArrayLike, native: tuple[str, ...] | list[str]
) -> None:
    """Refuse a description of the process that does not go with s."""
    for name, values in (("alpha", alpha), ("sigma", sigma)):
        array = _check_shape(f"{where}: {name}", values, s.shape, "one value for each s")
        _check_finite(f"{where}: {name}", array)
        if array.min() < 0:
            lowest = float(array.min())
            raise ValueError(f"{where}: {name} reaches {lowest:g}; expected values >= 0; check the process's schedule")
    if len(native) != len(s):
        raise ValueError(
            f"{where}: native has {len(native)} texts; expected {len(s)}, one for each s; label every frame"
        )


def _item_kind(item_shape: tuple[int, ...]) -> str | None:
    """Return what an item of that shape is: "image", "points", or None for neither."""
    if len(item_shape) == 3 and item_shape[-1] in (1, 3):
        return "image"
    return "points" if item_shape == (2,) else None


def _check_inputs(kind: str, clean: Array) -> None:
    """Refuse inputs that are not what `kind` says."""
    forms = {"image": "(N, H, W, C) with C 1 or 3", "points": "(N, 2)"}
    if kind not in forms:
        raise ValueError(f"sweep: kind is {kind!r}; expected 'image' or 'points'; pick the one that clean holds")
    if clean.size == 0 or _item_kind(clean.shape[1:]) != kind:
        raise ValueError(f"sweep: clean has shape {clean.shape}; expected {forms[kind]} for kind {kind!r}; reshape it")
    _check_finite("sweep: clean", clean)


def _check_item(name: str, item_shape: tuple[int, ...]) -> None:
    """Refuse an item that is neither an image nor a point."""
    if _item_kind(item_shape) is None:
        expected = "(H, W, C) with C 1 or 3, or (2,)"
        raise ValueError(f"{name} has items of shape {item_shape}; expected {expected}; reshape it")
