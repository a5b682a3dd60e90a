"""The model card (a checkpoint's README.md), written from its recipe and metrics."""

from __future__ import annotations

import shlex
from typing import Any

from dpi_core.backbones import FactoryConfig
from dpi_core.licences import WEIGHTS, binds_weights
from dpi_core.model import Model


def model_card(model: Model) -> str:
    """Markdown: what the model is, its data and licence, recipe, scores, and the commands that made it."""
    recipe, metrics = model.recipe, model.metrics
    sections = [
        f"# {recipe.name}",
        _introduction(model),
        "## Data\n\n" + _data(metrics),
        "## Recipe\n\n" + _recipe(model),
        "## Scores on held-out data\n\n" + _scores(metrics),
        "## Made by\n\n" + _commands(metrics, recipe.name),
        _licence(model),
    ]
    return "\n\n".join(sections) + "\n"


def command_line(*words: str, **flags: Any) -> str:
    """A command of this package as it is typed.

    Args:
        words: the command, and what it is given by place.
        flags: by their names with _ for -; a list is a flag for each entry. Those that are None or False are left out.
    """
    given = list(words)
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is not None and each is not False:
                given += [flag] if each is True else [flag, str(each)]
    return shlex.join(["python", "-m", "dpi_core", *given])


def _licence(model: Model) -> str:
    licence = model.metrics.get("data", {}).get("licence", "")
    if binds_weights(licence):
        return f"Weights: for {licence}, like the images they were trained on."
    ours = model.recipe.data.kind not in ("image_folder", "patches") and "imported" not in model.metrics
    return (
        f"Weights: {WEIGHTS} licence, like the code." if ours else "Weights: the licence is for their owner to state."
    )


def _introduction(model: Model) -> str:
    shape = " × ".join(map(str, model.recipe.shape))
    process = f"{type(model.process).__name__} (predicts {model.process.prediction})"
    opening = f"A denoiser for samples of shape {shape}, trained on {process}."
    return f"{opening} {CONDITIONING[model.recipe.conditioning.kind]}"


_BLIND = "The network is blind: it has one parameter set and never sees the noise level s."
CONDITIONING = {
    "dpi": "The network takes no scalar: Deep Parameter Interpolation (arXiv:2511.21028) runs it at (1 − λ(s))θ0 + λ(s)θ1,"
    " with λ a learned monotone curve of the noise level s.",
    "none": f"{_BLIND} The conversion from its output to x̂0 still knows s, and the prediction target is the one of the"
    " conditioned models.",
    "blind": f"{_BLIND} It predicts x̂0 itself, so that nothing knows s.",
    "input_map": "The noise level s enters as one more input of the first operator.",
    "embedding": "The noise level s enters as a scale and a shift inside the network, computed from Fourier features.",
    "rescaling": f"{_BLIND} It predicts the noise ε, and the score is −ε/σ.",
}
"""Conditioning -> what it does, in a sentence or two."""


def _data(metrics: dict[str, Any]) -> str:
    data = metrics.get("data")
    return "Not recorded." if data is None else f"{data['name']}; licence: {data['licence']}; source: {data['source']}."


def _recipe(model: Model) -> str:
    training, backbone = model.recipe.training, model.recipe.backbone
    parameters = sum(parameter.numel() for parameter in model.net.parameters())
    network = f"{type(backbone).__name__.removesuffix('Config')}, {parameters:,} parameters in all ({backbone})."
    if isinstance(backbone, FactoryConfig):
        network += (
            f" Its module has to be installed where the model is loaded, and `{backbone.factory}` to be allowed there."
        )
    if "imported" in model.metrics:
        return f"{network} The weights were imported; how they were trained is not recorded."
    return (
        f"{network} {training.steps:,} steps of {training.batch_size} samples with {training.scalars_per_batch}"
        f" scalars each, AdamW at {training.learning_rate:g} (λ at {training.phi_learning_rate:g}), {training.precision},"
        f" averaged weights (decay {training.ema_decay:g}), seed {training.seed}."
    )


def _scores(metrics: dict[str, Any]) -> str:
    held_out = metrics.get("held_out")
    if held_out is None:
        return "Not measured yet."
    lines = [f"{held_out['n']} held-out samples, noise seed {held_out['seed']}, at 17 noise levels.", ""]
    if "psnr" in held_out:
        lines += ["| s | PSNR (dB) | 95 % interval |", "|---|---|---|"]
        rows = zip(held_out["s"], held_out["psnr"], strict=True)
        lines += [f"| {s:.3f} | {p['mean']:.2f} | {p['low']:.2f} to {p['high']:.2f} |" for s, p in rows]
    else:
        lines += ["| s | mean squared error |", "|---|---|"]
        lines += [f"| {s:.3f} | {e:.5f} |" for s, e in zip(held_out["s"], held_out["mse"], strict=True)]
    if "excess_over_optimum" in metrics:
        excess = metrics["excess_over_optimum"]
        lines += [
            "",
            f"Excess error E‖x̂0 − x*‖² over the closed-form optimum's own E‖x* − x0‖²: {100 * excess['mean']:.2f} % on"
            f" average, {100 * excess['max']:.2f} % at most.",
        ]
    if "lambda" in metrics:
        for interval in metrics["lambda"]["saturation"]:
            lines += ["", f"90 % of λ's rise lies between s = {interval['low']:.2f} and {interval['high']:.2f}."]
    if "recognition" in metrics:
        lines += ["", _recognition(metrics["recognition"])]
    return "\n".join(lines)


def _recognition(scores: dict[str, Any]) -> str:
    samples, real = scores["samples"], scores["real_held_out"]
    return (
        f"A classifier trained on the real training images (accuracy {100 * scores['judge_accuracy']:.1f} % on held-out"
        f" ones) names {100 * samples['frac_confident']:.1f} % of {scores['n']} samples with confidence of at least 0.8,"
        f" using {samples['classes_used']} classes; of real held-out images {100 * real['frac_confident']:.1f} %."
    )


def _commands(metrics: dict[str, Any], name: str) -> str:
    training = metrics.get("training", {}) | metrics.get("imported", {})
    data = " --data PATH" if "--data" in training.get("command", "") else ""
    lines = [
        "```",
        training.get("command", "not recorded"),
        f"python -m dpi_core analyse {name}{data}",
        f"python -m dpi_core evaluate {name}{data}",
        "```",
    ]
    if "wall_seconds" in training:
        spent = f"{training['wall_seconds'] / 60:.0f} minutes on {training.get('hardware', 'hardware not recorded')}."
        lines += ["", f"{spent} {training.get('note', '')}".rstrip()]
    return "\n".join(lines)
