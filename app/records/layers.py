"""Requests and results of the Layers page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.records.inputs import Inputs, ModelKey


@dataclass(frozen=True)
class LayersRequest:
    """What the Layers page shows of all layers, judged on some inputs."""

    model: ModelKey
    inputs: Inputs
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class LayerDetailRequest:
    """One layer: its weights at both ends, and its output for one of the inputs along s.

    Attributes:
        model: the model.
        inputs: the samples.
        layer: module path; one of `LayersResult.names`.
        device: where to compute.
        sample: which of the inputs.
    """

    model: ModelKey
    inputs: Inputs
    layer: str
    device: str
    sample: int = 0
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class ReceptiveFieldRequest:
    """Which pixels of x_s one pixel of x̂0 depends on.

    Attributes:
        model: of images.
        inputs: the samples.
        row: of the pixel, from the top.
        column: of the pixel, from the left.
        s_grid: noise levels in [0, 1].
        device: where to compute.
        sample: which of the inputs.
    """

    model: ModelKey
    inputs: Inputs
    row: int
    column: int
    s_grid: tuple[float, ...]
    device: str
    sample: int = 0
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, eq=False)
class LayersResult:
    """The answer to a `LayersRequest`: m layers by depth, t noise levels; NaN where a number is undefined.

    Means over s leave out levels outside [0.05, 0.95]. "dB" is the PSNR of x̂0, averaged as `measure` says.

    Attributes:
        names: module path of each layer, in the order of the weights; ".": the network itself.
        kinds: class of each.
        stages: the stage it belongs to.
        numel: (m,) numbers in one parameter set.
        relative: (m,) ‖θ1 − θ0‖ / ‖θ0‖.
        s: (t,) noise levels.
        lam: (t,) λ(s); the mean over groups.
        native: the literature's time at each s.
        activation_change: (m, t) change of the layer's output from θ0 to θ(s) at the same x_s, relative to the first, RMS.
        cka: (m, t, t) debiased linear CKA of the layer's outputs between s and s′, noise and parameters both moving.
        cka_path: (m, t) the same between θ0 and θ(s) at the same x_s.
        holds: how a layer is held: "theta0", "theta1", "mean", which is λ's mean over the judged s.
        held_at: (3, m) λ at which it is held.
        pinned: (3, m, t) dB lost when one layer is held while the others follow λ(s); negative where it helps.
        pinned_low: (3, m, t) lower end of the 95 % interval over samples.
        pinned_high: (3, m, t) upper end.
        pinned_total: (3, m, 3) mean over s, low, high.
        quality: (t,) dB of the network as it is.
        order: layers in the order the greedy search holds them, the most dispensable first.
        order_holds: how each of them is held.
        kept: (k,) how many layers keep two sets, falling from m to 0.
        kept_loss: (k, 3) dB lost then: mean over s, low, high; judged on samples the order was not chosen on.
        enough: the fewest layers that keep 95 % of what is lost when all are held; None where nothing is.
        gain: (t,) dB between all layers at λ = 0 and all at λ(s), which the attributions share out.
        attribution: (m, t) dB of each layer, by integrated gradients from λ = 0 to λ(s).
        completeness: (t,) |Σ attribution − gain| / max(|gain|, floor).
        floor: of the completeness residual, in dB.
        check: the method of the cross-check.
        attribution_check: (m, t) dB by that method.
        derivative: (m, t) d(dB)/dλ of each layer at λ(s), exact.
        moved: (m, t) root mean square over pixels of ∂x̂0/∂λ of each layer.
        derivative_residual: (t,) |Σ over layers − derivative along the shared λ|, relative RMS of x̂0.
        samples: how many were judged by "cka", "pinned" and "attribution".
        seed: of noise, halves and bootstrap.
        measure: "psnr" averages the PSNR of samples, "mse" their squared errors.
        most: the layer that loses most when pinned, or changes most where none can be.
        notes: statistic, or name of a layer -> why it is NaN, in one sentence.
    """

    names: list[str]
    kinds: list[str]
    stages: list[str]
    numel: np.ndarray
    relative: np.ndarray
    s: np.ndarray
    lam: np.ndarray
    native: list[str]
    activation_change: np.ndarray
    cka: np.ndarray
    cka_path: np.ndarray
    holds: list[str]
    held_at: np.ndarray
    pinned: np.ndarray
    pinned_low: np.ndarray
    pinned_high: np.ndarray
    pinned_total: np.ndarray
    quality: np.ndarray
    order: list[str]
    order_holds: list[str]
    kept: np.ndarray
    kept_loss: np.ndarray
    enough: int | None
    gain: np.ndarray
    attribution: np.ndarray
    completeness: np.ndarray
    floor: float
    check: str
    attribution_check: np.ndarray
    derivative: np.ndarray
    moved: np.ndarray
    derivative_residual: np.ndarray
    samples: dict[str, int]
    seed: int
    measure: str
    most: str
    notes: dict[str, str]

    @property
    def cka_start(self) -> np.ndarray:
        """(m, t) CKA of each layer's output between s and the clean end."""
        return self.cka[:, :, 0]


@dataclass(frozen=True, eq=False)
class LayerDetailResult:
    """The answer to a `LayerDetailRequest`. Large weights and activations are cut to their leading rows and channels.

    Attributes:
        layer: module path.
        kind: its class.
        parameters: names of its weights within the layer.
        parameter: the one shown.
        weight_shape: its full shape.
        theta0: its values at λ = 0, float32: filters (o, i, h, w), a matrix (o, i), or a vector (o,).
        theta1: at λ = 1; the weight at s is (1 − λ)·theta0 + λ·theta1.
        histogram_edges: (b + 1,) for the entries of θ1 − θ0, all weights of the layer.
        histogram_counts: (b,).
        spectrum_lam: (q,) positions on the path.
        singular_values: (q, r) of the whole weight unfolded to (first axis, all others); (q, 0) for a vector.
        s: (t,) noise levels.
        lam: (t,) λ(s) of this layer.
        native: the literature's time at each s.
        clean: the sample, (h, w, c) or (2,).
        activation_shape: full shape of the output for one sample.
        activations: (t, c, h, w), (t, tokens, features) or (t, features) at θ(s), float32.
        activations0: the same at θ0 and the same x_s.
        note: why there are no activations, or "".
    """

    layer: str
    kind: str
    parameters: list[str]
    parameter: str
    weight_shape: list[int]
    theta0: np.ndarray
    theta1: np.ndarray
    histogram_edges: np.ndarray
    histogram_counts: np.ndarray
    spectrum_lam: np.ndarray
    singular_values: np.ndarray
    s: np.ndarray
    lam: np.ndarray
    native: list[str]
    clean: np.ndarray
    activation_shape: list[int]
    activations: np.ndarray
    activations0: np.ndarray
    note: str


@dataclass(frozen=True, eq=False)
class ReceptiveFieldResult:
    """The answer to a `ReceptiveFieldRequest`; images are (h, w, c).

    Attributes:
        s: (v,) noise levels.
        native: the literature's time at each s.
        clean: (h, w, c) the sample.
        x_s: (v, h, w, c).
        x0_hat: (v, h, w, c).
        gradients: (v, h, w, c) integrated gradients of x̂0 at the pixel, from mid-grey, x_s = 0, to x_s.
        occlusion: (v, h, w) change of x̂0 at the pixel when a patch there is replaced by 0.
        patch: side of that patch, in pixels.
        radius: (v,) root mean square distance from the pixel, weighted by |gradients|, in pixels.
        completeness: (v,) residual of the integrated gradients, relative to max(|Δx̂0|, floor).
        floor: of that residual.
    """

    s: np.ndarray
    native: list[str]
    clean: np.ndarray
    x_s: np.ndarray
    x0_hat: np.ndarray
    gradients: np.ndarray
    occlusion: np.ndarray
    patch: int
    radius: np.ndarray
    completeness: np.ndarray
    floor: float
