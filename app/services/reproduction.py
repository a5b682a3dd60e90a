"""A "reproduce" archive: what a result depends on, in one zip that is the same whenever it is made."""

from __future__ import annotations

import io
import json
import platform
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.records import StoredModel

PACKAGES = ("dpi-explorer", "torch", "numpy", "safetensors", "einops", "jaxtyping", "streamlit")
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest a zip can hold: a real date would make each archive another file."""


def archive(model: StoredModel, seed: int, device: str, lines: str) -> bytes:
    """The zip: config, versions, seed and the weights' digest, and the lines of Python.

    Args:
        model: on show.
        seed: of inputs and noise.
        device: that computed.
        lines: Python that computes what is shown.
    """
    about = {"model": model.name, "seed": seed, "device": device, "digest_of_config_and_weights": model.key.digest}
    files = {
        "reproduce.py": f"{lines}\n",
        "config.json": (Path(model.key.folder) / "config.json").read_text(),
        "about.json": _as_json({**about, "python": platform.python_version(), "packages": _versions()}),
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(zipfile.ZipInfo(f"{model.source.recipe_name}/{name}", FIRST_DATE), text)
    return content.getvalue()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _as_json(about: dict[str, object]) -> str:
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"
