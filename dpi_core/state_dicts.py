"""State dicts of other people: `.safetensors` as they are, `.pt` read without running anything that is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dpi_core.limits import Limits, read_header

SAFETENSORS, TORCH = ".safetensors", (".pt", ".pth", ".ckpt", ".bin")


def read_state_dict(file: Path, key: str | None = None) -> dict[str, Tensor]:
    """Reads the named tensors of a file.

    Args:
        file: `.safetensors`, or what `torch.save` wrote; of the latter only tensors and plain containers are read.
        key: which of several state dicts in a `torch.save` file, for example "ema" or "state.model".

    Raises:
        ValueError: there is no such file, it exceeds a limit or holds something else, or it holds several state dicts and
            `key` names none.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a .safetensors or a .pt file.")
    limits = Limits.from_environment()
    limits.check("file_bytes", file.stat().st_size, str(file))
    if file.suffix == SAFETENSORS:
        read_header(file, limits)
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is not a readable safetensors file ({error}); copy it again.") from error
    if file.suffix not in TORCH:
        raise ValueError(
            f"{file} ends in {file.suffix!r}; give a file that ends in {SAFETENSORS} or {', '.join(TORCH)}."
        )
    return _choose(file, dict(_state_dicts(_load_without_code(file))), key)


def _load_without_code(file: Path) -> Any:
    try:
        if _is_compressed(file):
            raise ValueError("it is compressed, which torch.save never does, and a small file could fill the memory")
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file can fail in any way
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{file} is not a file of plain tensors ({reason}); save the network's state_dict() alone, best as safetensors."
        ) from error


def _is_compressed(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())


def _state_dicts(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The mappings from names to tensors in what `torch.load` returned, each with its place, "" at the top."""
    if not isinstance(content, Mapping) or depth > 3:
        return
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor) and value.ndim}
    if any(isinstance(name, str) and "." in name for name in tensors):
        yield path, {str(name): value for name, value in tensors.items()}
        return
    for name, value in content.items():
        if name != "optimizer":
            yield from _state_dicts(value, f"{path}.{name}" if path else str(name), depth + 1)


def _choose(file: Path, found: Mapping[str, dict[str, Tensor]], key: str | None) -> dict[str, Tensor]:
    if not found:
        raise ValueError(f"{file} holds no state dict of a network; save its state_dict().")
    if key is None and len(found) == 1:
        return next(iter(found.values()))
    if key is None or key not in found:
        wanted = "none is chosen" if key is None else f"none is called {key!r}"
        raise ValueError(f"{file} holds the state dicts {', '.join(found)}, and {wanted}; choose one by --key.")
    return found[key]
