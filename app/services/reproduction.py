"""A "reproduce" archive: what a result depends on, in one zip that is the same whenever it is made."""

from __future__ import annotations

import io
import json
import platform
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from app.figures.reproduce import OWN_IMAGES
from app.records import Inputs, StoredModel

PACKAGES = ("dpi-explorer", "torch", "numpy", "safetensors", "einops", "jaxtyping", "streamlit")
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest a zip can hold: a real date would make each archive another file."""

IMAGES, DIGEST = "images.npy", "digest_of_config_and_weights"


def archive(models: Sequence[StoredModel], inputs: Inputs, device: str, lines: str) -> bytes:
    """The zip: configs, versions, seed and the weights' digests, the lines of Python, and a reader's own images.

    Args:
        models: on show, at least one; `config.json` is the first one's, `config-2.json` that of the one beside it, and so on.
        inputs: what is looked at.
        device: that computed.
        lines: Python that computes what is shown.
    """
    first, *others = models
    beside = [{"model": other.name, DIGEST: other.key.digest} for other in others]
    files: dict[str, str | bytes] = {
        "reproduce.py": f"{lines}\n",
        "config.json": _config(first),
        **{f"config-{number}.json": _config(other) for number, other in enumerate(others, 2)},
        "about.json": _as_json(about(first, inputs.seed, device) | ({"beside": beside} if beside else {})),
    }
    if inputs.upload is not None:
        read = OWN_IMAGES.replace("...", f'torch.from_numpy(numpy.load("{IMAGES}"))')
        files["reproduce.py"] = f"import numpy\n{lines.replace(OWN_IMAGES, read)}\n"
        files[IMAGES] = _as_npy(inputs.upload.array()[: inputs.taken])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(zipfile.ZipInfo(f"{first.source.recipe_name}/{name}", FIRST_DATE), text)
    return content.getvalue()


def about(model: StoredModel, seed: int, device: str) -> dict[str, object]:
    """What a result depends on besides its lines of Python: model and weights, seed, device, and versions."""
    return {
        "model": model.name,
        "seed": seed,
        "device": device,
        DIGEST: model.key.digest,
        **versions(),
    }


def versions() -> dict[str, object]:
    """What every result depends on: Python and packages."""
    return {"python": platform.python_version(), "packages": _packages()}


def _config(model: StoredModel) -> str:
    return (Path(model.key.folder) / "config.json").read_text()


def _as_npy(images: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, images)
    return file.getvalue()


@cache
def _packages() -> dict[str, str]:
    """Read once: every run of the script asks, and it is a file of text for each package."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _as_json(about: dict[str, object]) -> str:
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"
