"""A "reproduce" archive: what a result depends on, in one zip that is the same whenever it is made."""

from __future__ import annotations

import io
import json
import platform
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from app.figures.reproduce import OWN_IMAGES
from app.records import Inputs, StoredModel

PACKAGES = ("dpi-explorer", "torch", "numpy", "safetensors", "einops", "jaxtyping", "streamlit")
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest a zip can hold: a real date would make each archive another file."""


IMAGES = "images.npy"


def archive(model: StoredModel, inputs: Inputs, device: str, lines: str) -> bytes:
    """The zip: config, versions, seed and the weights' digest, the lines of Python, and a reader's own images.

    Args:
        model: on show.
        inputs: what is looked at.
        device: that computed.
        lines: Python that computes what is shown.
    """
    files: dict[str, str | bytes] = {
        "reproduce.py": f"{lines}\n",
        "config.json": (Path(model.key.folder) / "config.json").read_text(),
        "about.json": _as_json(about(model, inputs.seed, device)),
    }
    if inputs.upload is not None:
        read = OWN_IMAGES.replace("...", f'torch.from_numpy(numpy.load("{IMAGES}"))')
        files["reproduce.py"] = f"import numpy\n{lines.replace(OWN_IMAGES, read)}\n"
        files[IMAGES] = _as_npy(inputs.upload.array()[: inputs.taken])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(zipfile.ZipInfo(f"{model.source.recipe_name}/{name}", FIRST_DATE), text)
    return content.getvalue()


def about(model: StoredModel, seed: int, device: str) -> dict[str, object]:
    """What a result depends on besides its lines of Python: model and weights, seed, device, and versions."""
    return {
        "model": model.name,
        "seed": seed,
        "device": device,
        "digest_of_config_and_weights": model.key.digest,
        **versions(),
    }


def versions() -> dict[str, object]:
    """What every result depends on: Python and packages."""
    return {"python": platform.python_version(), "packages": _packages()}


def _as_npy(images: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, images)
    return file.getvalue()


def _packages() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _as_json(about: dict[str, object]) -> str:
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"
