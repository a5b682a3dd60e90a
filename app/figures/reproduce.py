"""The lines of Python behind a picture; a test runs them and compares the result."""

from __future__ import annotations

from app.records import Inputs, StoredModel
from dpi_core.licences import FOLDER_KINDS

COMPARED = (
    "batch = max(4, min(len(x0), samples_per_batch(model.denoiser, x0)))  # CKA is averaged over batches",
    "*_, found = layer_activations(model.denoiser, x0, eps, s, batch)",
)
"""The lines that compare the outputs of layers between noise levels."""

OWN_IMAGES = "x0 = ..."
"""How the line begins that a reader completes, whose images are in no file of ours."""


def pinned_lines(measure: str, seed: int) -> list[str]:
    """The lines that hold every layer in turn."""
    return [
        "errors = list(pinned_errors(model.denoiser, x0, eps, s, batch_size=len(x0)))",
        f'single = pinning(model.denoiser, errors, s, "{measure}", seed={seed})',
    ]


def denoise_lines(
    model: StoredModel, inputs: Inputs, s: float, lam: float | None, device: str, second: StoredModel | None = None
) -> str:
    """Python that computes `x0_hat` of the Denoise page, and `second_x0_hat` of the model beside it.

    Args:
        model: on show.
        inputs: what is looked at.
        s: the noise level.
        lam: the parameters' position, if it is off the learned curve.
        device: where to compute.
        second: the model beside it, if there is one.
    """
    imports = ["import dpi_core", "import torch", *data_imports(inputs), "from dpi_core.seeds import seeded_generator"]
    lines = [
        *imports,
        "",
        load_line(model, device),
        clean_line(model, inputs),
        f"eps = torch.randn(x0.shape, generator=seeded_generator({inputs.seed}))",
        f"s = {s:.6g}",
        "x_s = model.process.add_noise(x0, eps, s)",
    ]
    if lam is None:
        lines += ["x0_hat = model.denoise(x_s, s)"]
    else:
        lines += [f"with model.net.using(dpi_core.FixedSchedule({lam:.6g})):", "    x0_hat = model.denoise(x_s, s)"]
    lines += ["mse = (x0_hat.cpu() - x0).square().flatten(1).mean(1)"]
    if second is not None:
        lines += [
            load_line(second, device).replace("model =", "second =", 1),
            "second_x0_hat = second.denoise(second.process.add_noise(x0, eps, s), s)",
            "second_mse = (second_x0_hat.cpu() - x0).square().flatten(1).mean(1)",
        ]
    return "\n".join(lines)


def stored_inputs(model: StoredModel) -> Inputs:
    """What a checkpoint's stored frames show."""
    assert model.sweep is not None
    return Inputs(model.own_inputs, len(model.sweep.clean), 0, of=model.drawn_by)


def data_imports(inputs: Inputs) -> list[str]:
    """What the line that makes `x0` needs imported."""
    needed = {
        "held-out": "from dpi_core.data import load_data",
        "digits": "from dpi_core.data import digits, fit_images",
        "photos": "from dpi_core.data import fit_images, photos",
    }
    return [needed[inputs.kind]] if inputs.kind in needed else []


def load_line(model: StoredModel, device: str = "cpu") -> str:
    """The line that loads the model."""
    on_device = "" if device == "cpu" else f', device="{device}"'
    return f'model = dpi_core.load("{model.source.load_from}"{on_device})'


def judged_imports(inputs: Inputs, *more: str) -> list[str]:
    """What `judged_lines` need imported, and more lines of imports."""
    return [
        "import dpi_core",
        "import numpy as np",
        "import torch",
        *more,
        *data_imports(inputs),
        "from dpi_core.seeds import seeded_generator",
    ]


def judged_lines(model: StoredModel, inputs: Inputs, device: str) -> list[str]:
    """The lines that make `model`, `x0` and `eps`: the samples that errors are judged on, and their noise."""
    return [
        load_line(model, device),
        clean_line(model, inputs),
        f"eps = torch.randn(x0.shape, generator=seeded_generator({inputs.seed}, 1))",
    ]


def clean_line(model: StoredModel, inputs: Inputs) -> str:
    """The line that makes `x0`, the clean samples."""
    draw = f"held_out_batch({inputs.n}, seed={inputs.seed})"
    shape = tuple(model.recipe["shape"])
    whose = "model" if inputs.of is None else f'dpi_core.load("checkpoints/{inputs.of.name}")'
    if inputs.kind == "held-out":
        data_path = ", data_path=PATH" if model.recipe["data"]["kind"] in FOLDER_KINDS else ""
        return f"x0 = load_data({whose}.recipe.data{data_path}).{draw}"
    if inputs.kind == "samples":
        clamp = ".clamp(-1, 1)" if model.is_image else ""
        return f"x0 = {whose}.sample({inputs.n}, seed={inputs.seed}).x.cpu(){clamp}"
    if inputs.kind == "upload":
        images = "your image" if inputs.taken == 1 else f"your {inputs.taken} images"
        repeated = (
            f"\nx0 = x0.repeat({inputs.draws}, 1, 1, 1)  # each with noise of its own" if inputs.draws > 1 else ""
        )
        return f"{OWN_IMAGES}  # {images}: float32 in [-1, 1], shape {(inputs.taken, *shape)}{repeated}"
    source = "digits()" if inputs.kind == "digits" else f"photos(gray={shape[0] == 1})"
    return f"x0 = fit_images({source}.{draw}, {shape})"
