"""The Layers page: its table and detail for the browser, its figures and sentences."""

from __future__ import annotations

import numpy as np

from app.components.layers import LayerDetail, LayerTable, Statistic
from app.figures.chart import signed
from app.figures.reproduce import COMPARED, judged_imports, judged_lines, pinned_lines
from app.records import Inputs, LayerDetailResult, LayersResult, StoredModel

HOLDS = {"theta0": "θ0", "theta1": "θ1", "mean": "the mean"}
"""How a layer is held, in words."""

FILTERS_IN_A_PICTURE, ROWS_IN_A_PICTURE = 10, 64
"""Kernels, or numbers of a matrix, that are large enough to be seen."""

SAMPLES_TO_CHOOSE = 8


def layer_table(model: StoredModel, result: LayersResult, own_samples: bool, samples: int) -> LayerTable:
    """What the browser shows of all layers.

    Args:
        model: on show.
        result: what was found.
        own_samples: whether the activations are of the model's stored inputs, whose pictures are there.
        samples: how many there are to choose from.
    """
    pictures = None
    if own_samples and model.is_image and model.sweep is not None:
        pictures = model.sweep.clean[:SAMPLES_TO_CHOOSE]
        samples = len(pictures)
    sizes = [int(size) for size in result.numel]
    return LayerTable(
        model.name,
        result.names,
        result.stages,
        result.kinds,
        sizes,
        statistics(result),
        min(samples, SAMPLES_TO_CHOOSE),
        pictures,
    )


def statistics(result: LayersResult) -> tuple[Statistic, ...]:
    """Everything that is known of each layer over s; what is nowhere defined is left out."""
    s, once = result.s, np.array([0.5])
    found = [
        Statistic(
            "change", "Activation change", "",
            "How far the layer's output at θ(s) is from that at θ0, for the same noised input; 1: as far as it is long.",
            s, result.activation_change,
        ),
        Statistic(
            "cka", "CKA to the clean end", "",
            "Similarity of the layer's outputs at s and at the clean end, noise and parameters both moving; 1: the same"
            " up to rotation and scale.",
            s, result.cka_start, largest_first=False,
        ),
        Statistic(
            "cka_path", "CKA of θ(s) to θ0", "",
            "Similarity of the layer's outputs at θ(s) and at θ0 for the same noised inputs; 1: the same up to rotation"
            " and scale.",
            s, result.cka_path, largest_first=False,
        ),
        *(
            Statistic(
                f"pin_{hold}", f"Pinned at {HOLDS[hold]}", "dB",
                f"PSNR lost at s when this one layer is held at {HOLDS[hold]} while the others follow λ(s); blue: it helps."
                " Full colour is what is lost at most between s = 0.05 and 0.95.",
                s, result.pinned[i], diverging=True,
            )
            for i, hold in enumerate(result.holds)
        ),
        Statistic(
            "attribution", "Attribution", "dB",
            "Share of the PSNR that θ(s) gains over θ0, by integrated gradients over the layers' λ; blue: the layer"
            " costs.",
            s, result.attribution, diverging=True,
        ),
        Statistic(
            "derivative", "Derivative", "dB per unit of λ",
            "How fast PSNR rises when the λ of this one layer grows from λ(s). Where one shared λ(s) is optimal inside (0, 1)"
            " the layers add up to zero; one far from zero would want another λ than the rest.",
            s, result.derivative, diverging=True,
        ),
        Statistic(
            "moved", "Sensitivity of x̂0", "per unit of λ",
            "How fast x̂0 moves, root mean square over its numbers, when the λ of this one layer grows.",
            s, result.moved,
        ),
        Statistic(
            "relative", "Relative distance", "",
            "‖θ1 − θ0‖ / ‖θ0‖ of the layer's parameters; it does not depend on s.",
            once, np.asarray(result.relative, dtype=float)[:, None],
        ),
    ]  # fmt: skip
    return tuple(each for each in found if np.isfinite(each.values).any())


def layer_detail(model: StoredModel, result: LayerDetailResult, sample: int) -> LayerDetail:
    """What the browser shows of one layer."""
    two = model.has_two_sets
    lam_s, lam = _curve(model, result) if two else (None, None)
    has_output = result.activations.size > 0
    return LayerDetail(
        layer=result.layer,
        sample=sample,
        about=f"{result.parameter} {_times(result.weight_shape)}",
        weight_caption=_weight_caption(result, two),
        theta0=_visible(result.theta0),
        theta1=_visible(result.theta1) if two else None,
        lam_s=lam_s,
        lam=lam,
        s=result.s,
        native=tuple(result.native),
        activations=result.activations if has_output else None,
        activations0=result.activations0 if has_output and two else None,
        activation_caption=_activation_caption(result) if has_output else result.note,
    )


def _curve(model: StoredModel, result: LayerDetailResult) -> tuple[np.ndarray, np.ndarray]:
    """λ(s) of the layer; from the stored frames, which are finer, where it has the network's."""
    sweep = model.sweep
    if sweep is None or sweep.lam is None:
        return result.s, result.lam
    agrees = np.allclose(np.interp(result.s, sweep.s, sweep.lam), result.lam, atol=1e-3)
    return (sweep.s, sweep.lam) if agrees else (result.s, result.lam)


def _visible(weight: np.ndarray) -> np.ndarray:
    """The leading part of a weight that is large enough to be seen."""
    if weight.ndim == 1:
        return weight
    limit = FILTERS_IN_A_PICTURE if weight.ndim == 4 and weight[0, 0].size > 1 else ROWS_IN_A_PICTURE
    if min(weight.shape[:2]) == 1:
        limit *= limit
    return weight[:limit, :limit]


def _weight_caption(result: LayerDetailResult, two: bool) -> str:
    shape = _visible(result.theta0).shape
    what = {
        4: "Rows are outputs, columns inputs, tiles the kernels",
        2: "Rows are outputs, columns inputs",
        1: "One number per channel, in rows",
    }[len(shape)]
    if len(shape) > 1 and min(shape[:2]) == 1:
        what = (
            f"{'A tile' if len(shape) == 4 else 'A number'} for each {'output' if shape[0] > 1 else 'input'}, in rows"
        )
    cut = "" if list(shape) == list(result.weight_shape) else f", the first {_times(shape)}"
    scale = "red above, blue below zero, one scale for all three" if two else "red above, blue below zero"
    return f"{what}{cut}; {scale}."


def _activation_caption(result: LayerDetailResult) -> str:
    shown, full = result.activations.shape[1:], result.activation_shape
    kind = {3: "A tile for each channel", 2: "Rows are tokens, columns features", 1: "One number per feature, in rows"}
    cut = "" if list(shown) == list(full) else f", the first {_times(shown)} of {_times(full)}"
    return f"{kind[len(shown)]}{cut}."


def _times(shape: tuple[int, ...] | list[int]) -> str:
    return " × ".join(str(size) for size in shape)


# Lines of Python --------------------------------------------------------------------------------------------------


def table_lines(model: StoredModel, result: LayersResult, inputs: Inputs, device: str, statistic: str) -> str:
    """Python that computes one statistic, (m, t) or (m,): a row for each layer."""
    module, part, values = _ways(result, inputs)[statistic]
    count = [] if part is None else [f"x0, eps = x0[:{result.samples[part]}], eps[:{result.samples[part]}]"]
    return "\n".join(
        [
            *judged_imports(inputs, f"from dpi_core.analysis.{module}"),
            "",
            *judged_lines(model, inputs, device),
            f"s = {[round(float(s), 6) for s in result.s]}",
            *count,
            *values,
        ]
    )


def _ways(result: LayersResult, inputs: Inputs) -> dict[str, tuple[str, str | None, list[str]]]:
    """For each statistic what is imported, which count of samples it takes, and the lines that compute it."""
    outputs = "activations import layer_activations, samples_per_batch"
    tangents = "tangents = [each for each in layer_tangents(model.denoiser, x0, eps, s"
    found: dict[str, tuple[str, str | None, list[str]]] = {
        "change": (outputs, "cka", [*COMPARED, "values = found.change"]),
        "cka": (outputs, "cka", [*COMPARED, "values = found.cka[:, :, 0]"]),
        "cka_path": (outputs, "cka", [*COMPARED, "values = found.cka_path"]),
        "relative": (
            "weights import weight_distances",
            None,
            ["values = np.array([each.relative for each in weight_distances(model.net).layers])"],
        ),
        "attribution": (
            "attribution import quality_target, shares",
            "attribution",
            [
                f'target, ways = quality_target("{result.measure}"), ["integrated gradients"]',
                f"found = shares(model.denoiser, x0, eps, s, target, ways, seed={inputs.seed})",
                "values = np.array([each.values for each in found]).T",
            ],
        ),
    }
    for key, field in (("derivative", "quality"), ("moved", "moved")):
        each = [
            f'{tangents}, "{result.measure}") if each.layer is not None]',
            f"values = np.array([each.{field} for each in tangents]).reshape(len(s), -1).T",
        ]
        found[key] = ("attribution import layer_tangents", "derivative", each)
    for i, hold in enumerate(result.holds):
        each = [
            *pinned_lines(result.measure, inputs.seed),
            f"values = np.array([lost.mean for lost in single.losses[{i}]])  # held at {HOLDS[hold]}",
        ]
        found[f"pin_{hold}"] = ("pinning import pinned_errors, pinning", "pinned", each)
    return found


def detail_lines(
    model: StoredModel, detail: LayerDetailResult, inputs: Inputs, device: str, sample: int, s: float
) -> str:
    """Python that computes the weight and the output that are shown of one layer."""
    path = detail.parameter if detail.layer == "." else f"{detail.layer}.{detail.parameter}"
    levels = [round(float(level), 6) for level in detail.s]
    weight = f'weight = model.net.effective_parameters(s)["{path}"]'
    if not model.has_two_sets:
        weight = f'weight = model.net.get_parameter("backbone.{path}")'
    return "\n".join(
        [
            *judged_imports(inputs, "from dpi_core.analysis.activations import layer_outputs"),
            "",
            *judged_lines(model, inputs, device),
            f"s, n, levels = {s:.4g}, {sample}, {levels}",
            weight,
            f'output, output_at_theta0, _ = layer_outputs(model.denoiser, x0[n], eps[n], "{detail.layer}", levels)',
        ]
    )


# Sentences -------------------------------------------------------------------------------------------------------


def enough_in_words(result: LayersResult, named: int) -> str:
    """Which layers carry 95 % of what the network loses when all are held still.

    Args:
        result: with a holding order, or the sentence is empty.
        named: how many layers are named; the others are counted.
    """
    if not np.isfinite(result.kept_loss).any():
        return ""
    loss, low, high = result.kept_loss[-1]
    interval = f"{signed(loss, 2)} dB ({signed(low, 2)} to {signed(high, 2)})"
    if result.enough is None:
        return f"Holding all layers still costs nothing on these samples: {interval}."
    kept = result.order[len(result.order) - result.enough :][::-1]
    names = ", ".join(f"`{name}`" for name in kept[:named])
    others = f" and {len(kept) - named} more" if len(kept) > named else ""
    subject = "This layer carries" if len(kept) == 1 else f"These {len(kept)} of {len(result.names)} layers carry"
    return (
        f"{subject} 95 % of the {interval} that this network loses when all its layers are held still: {names}{others}."
        " A network trained with one set would lose less, so only training tells how many a smaller network needs."
    )
