"""What a card on the Models page says about a model: a few facts in words, from its recipe and scores alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.figures.denoise import error_at
from app.records import StoredModel
from dpi_core.licences import WEIGHTS, binds_weights

SCORED_AT = 0.35
"""The noise level whose held-out score stands on a card."""

PROCESSES = {
    "vp": "VP diffusion",
    "edm": "EDM (VE diffusion)",
    "flow": "flow matching",
    "awgn": "white noise of known σ",
}
TARGETS = {"x0": "x0", "eps": "ε", "v": "v", "velocity": "velocity", "score": "score"}
CONDITIONINGS = {
    "dpi": "DPI: two parameter sets and λ",
    "none": "one parameter set, blind to t",
    "blind": "one parameter set; nothing knows t",
    "input_map": "one parameter set, t as one more input",
    "embedding": "one parameter set, scaled and shifted by t",
    "rescaling": "one parameter set, blind to t",
}
OWN_TARGETS = {"blind": "x0", "rescaling": "eps"}
"""What a network predicts whatever its process says, by conditioning."""

BACKBONES = {"unet": "U-Net", "mlp": "MLP", "drunet": "DRUNet", "dncnn": "DnCNN"}


def facts(model: StoredModel) -> list[tuple[str, str]]:
    """(label, text) of each line of the card; texts come from the model's files and are not markup."""
    lines: list[tuple[str, Callable[[StoredModel], str]]] = [
        ("Data", _data),
        ("Process", _process),
        ("Network", _network),
        ("Scalar", _conditioning),
        (f"At t = {SCORED_AT:g}", score),
        ("Licence", _licence),
    ]
    return [(label, words(model)) for label, words in lines]


def score(model: StoredModel) -> str:
    """The held-out score at one noise level, with its interval where there is one."""
    value = error_at(model, SCORED_AT)
    if value is None:
        return "not measured"
    if not model.is_image:
        least = model.metrics.get("excess_over_optimum", {}).get("optimum_mse")
        return f"MSE {value:.3f}" if least is None else f"MSE {value:.3f}, {_above(model, value, least)} the optimum"
    return f"{value:.2f} dB PSNR"


def _above(model: StoredModel, value: float, least: Sequence[float]) -> str:
    excess = 100 * (value / float(np.interp(SCORED_AT, model.metrics["held_out"]["s"], least)) - 1)
    return f"{excess:.{0 if excess >= 10 else 1}f} % above"


def order(model: StoredModel) -> tuple[bool, str, str]:
    """One's own models come first; cards of the same data stand together."""
    return model.source.origin == "zoo", model.source.data, model.name


def matches(model: StoredModel, wanted: str) -> bool:
    """Whether every word that is looked for stands somewhere on the card."""
    text = " ".join([model.name, *(words for _, words in facts(model))]).casefold()
    return all(word in text for word in wanted.casefold().split())


def _data(model: StoredModel) -> str:
    name = str(_section(model.metrics, "data").get("name") or model.recipe["data"].get("kind")).replace("_", " ")
    shape = " × ".join(map(str, model.recipe["shape"])) if model.is_image else f"points in {model.recipe['shape'][0]}-D"
    return f"{name}, {shape}"


def _process(model: StoredModel) -> str:
    process = model.recipe["process"]
    conditioning = str(_section(model.recipe, "conditioning").get("kind"))
    kind, target = str(process.get("kind")), str(process.get("prediction", "velocity"))
    target = OWN_TARGETS.get(conditioning, target)
    return f"{PROCESSES.get(kind, kind)}, predicts {TARGETS.get(target, target)}"


def _network(model: StoredModel) -> str:
    kind = str(_section(model.recipe, "backbone").get("kind"))
    count = model.metrics.get("parameters")
    size = f", {count / 1e6:.2f} M numbers" if isinstance(count, int | float) else ""
    return f"{BACKBONES.get(kind, kind)}{size}"


def _conditioning(model: StoredModel) -> str:
    conditioning = model.recipe["conditioning"]
    kind = str(conditioning.get("kind"))
    words = CONDITIONINGS.get(kind, kind)
    groups = conditioning.get("groups")
    return f"{words}, {len(groups)} curves" if groups else words


def _licence(model: StoredModel) -> str:
    licence = _section(model.metrics, "data").get("licence")
    data = "data not recorded" if licence is None else f"data {licence}"
    weights = "the same" if binds_weights(licence or "") else WEIGHTS
    return f"{data}; weights {weights}" if model.source.origin == "zoo" else data


def _section(record: dict[str, Any], name: str) -> dict[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}
