"""What a file that somebody hands over may ask for: it is measured before memory is taken for what it holds.

Nothing here imports torch before it is needed, so that the app can look at a file before torch is there.
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from torch import Tensor, nn

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Types in a safetensors header -> bytes of one number."""

SLACK = 4
"""While it is built, a network registers some tensors more than once: its sets, and the backbone they came from."""


@dataclass(frozen=True)
class Limits:
    """The most that is taken of what somebody hands over: a checkpoint, weights, images, data, a session's uploads.

    Attributes:
        json_bytes: of config.json and of metrics.json.
        header_bytes: of the header of a safetensors file.
        file_bytes: of a file of weights.
        tensors: in a file.
        numbers: in a file, over all tensors.
        sample_numbers: in one sample of the model's shape.
        layer_numbers: in one layer's output for one sample.
        result_numbers: in one answer of the app, over all samples, levels and steps.
        steps: of the default sampler.
        knots: of a table of λ that is imported.
        download_bytes: of a checkpoint on the Hub, all files together.
        image_pixels: of one image, as its header states them.
        data_bytes: of a data set in memory.
        image_bytes: of one uploaded image file.
        images: in one upload.
        images_bytes: in one upload, all files together.
        session_models: that a session may keep.
        session_bytes: of these models together.
        server_bytes: of the models of all sessions together.
    """

    json_bytes: int = 2**20
    header_bytes: int = 2**23
    file_bytes: int = 2**32
    tensors: int = 10_000
    numbers: int = 500_000_000
    sample_numbers: int = 2**22
    layer_numbers: int = 2**27
    result_numbers: int = 2**28
    steps: int = 10_000
    knots: int = 1_000_000
    download_bytes: int = 2**33
    image_pixels: int = 50_000_000
    data_bytes: int = 2**31
    image_bytes: int = 2**24
    images: int = 64
    images_bytes: int = 2**27
    session_models: int = 8
    session_bytes: int = 2**28
    server_bytes: int = 2**31

    @classmethod
    def from_environment(cls) -> Limits:
        """The limits with those replaced that the environment sets, e.g. DPI_MAX_NUMBERS=2000000000.

        Raises:
            ValueError: a variable is not a positive integer.
        """
        given = {field.name: os.environ.get(_variable(field.name)) for field in fields(cls)}
        return cls(**{name: _positive(name, text) for name, text in given.items() if text is not None})

    def check(self, name: str, found: int, what: str, remedy: str = "") -> None:
        """Refuses more than the limit `name` allows.

        Args:
            name: of the limit.
            found: how much there is.
            what: has so much, with its article.
            remedy: what to do instead of raising the limit; by default that is only advised for one's own files.

        Raises:
            ValueError: there is more; the message names the limit.
        """
        if found > getattr(self, name):
            raise self.refusal(name, _count(found), what, remedy)

    def refusal(self, name: str, found: str, what: str, remedy: str = "") -> ValueError:
        """What `check` raises, for a number that is only known in words."""
        return ValueError(
            f"{what} has {found} {name.split('_')[-1]}, more than the {_count(getattr(self, name))} allowed;"
            f" {f'{remedy}, or' if remedy else 'if the file is yours,'} raise Limits.{name} ({_variable(name)})."
        )


def read_header(file: Path, limits: Limits) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor in a safetensors file; reads the header alone, and checks it against the file.

    Args:
        file: the file.
        limits: what it may hold.

    Returns:
        Name -> (type as the format writes it, e.g. "F32", shape).

    Raises:
        ValueError: the header is damaged, does not describe the file, or exceeds a limit.
    """
    size = file.stat().st_size
    limits.check("file_bytes", size, str(file))
    with file.open("rb") as content:
        start = content.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise _unreadable(file, "its header is longer than the file")
        limits.check("header_bytes", length, f"the header of {file}")
        header = content.read(length)
    entries = _parse(file, header)
    limits.check("tensors", len(entries), str(file))
    spans = {name: _span(file, name, entry) for name, entry in entries.items()}
    end = 0
    for begin, stop in sorted(spans.values()):
        if begin != end:
            raise _unreadable(file, "its tensors overlap or leave a gap")
        end = stop
    if end != size - 8 - length:
        raise _unreadable(file, f"its tensors take {end} bytes, but {size - 8 - length} follow the header")
    found = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
    limits.check("numbers", sum(math.prod(shape) for _, shape in found.values()), str(file))
    return found


def read_json(file: Path, limits: Limits | None = None) -> Any:
    """Reads JSON.

    Args:
        file: the file.
        limits: bound its size; None for files of one's own.

    Raises:
        ValueError: the file is too large, or not JSON.
    """
    if limits is not None:
        limits.check("json_bytes", file.stat().st_size, file.name)
    try:
        return json.loads(file.read_text())
    except RecursionError:
        raise ValueError(
            f"{file.name} is not valid JSON that can be read: it is nested too deeply; restore the file."
        ) from None
    except ValueError as error:
        raise ValueError(f"{file.name} is not valid JSON ({error}); restore the file.") from error


@contextmanager
def building_within(tensors: int, numbers: int) -> Iterator[None]:
    """Stops the building of a network that asks for far more than a file holds; other threads build undisturbed.

    Args:
        tensors: in the file.
        numbers: in the file.

    Raises:
        ValueError: the network needs more; raised before it is complete, so a size of 10⁹ costs nothing.
    """
    from torch.nn.modules import module

    owner, left = threading.get_ident(), [SLACK * tensors + 100, SLACK * numbers + 10_000]

    def count(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is None or threading.get_ident() != owner:
            return
        left[0] -= 1
        left[1] -= tensor.numel()
        if min(left) < 0:
            raise ValueError(
                f"the config asks for a network with far more than the {_count(tensors)} tensors and {_count(numbers)}"
                " numbers of the file; it belongs to another config."
            )

    handles = [
        module.register_module_parameter_registration_hook(count),
        module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def layers_within(network: nn.Module, limits: Limits) -> Iterator[None]:
    """Refuses a forward pass in which one layer's output exceeds `Limits.layer_numbers`.

    Raises:
        ValueError: a layer's output is too large; names the layer.
    """

    def check(name: str) -> Any:
        def after(_: nn.Module, __: Any, output: Any) -> None:
            numel = getattr(output, "numel", None)
            limits.check("layer_numbers", numel() if callable(numel) else 0, f"the output of {name or 'the network'}")

        return after

    handles = [layer.register_forward_hook(check(name)) for name, layer in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def in_one_line(error: BaseException) -> str:
    """What an error says, on one line; of a long one the middle, which quotes the file, is left out."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:200]} … {text[-190:]}"


def _parse(file: Path, header: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, f"its header is not JSON: {in_one_line(error)}") from None
    if not isinstance(entries, dict):
        raise _unreadable(file, "its header is no object")
    entries.pop("__metadata__", None)
    return entries


def _span(file: Path, name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor lies in the file, checked against its type and shape."""
    shape = entry.get("shape") if isinstance(entry, dict) else None
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    kind = entry.get("dtype") if isinstance(entry, dict) else None
    if not (
        _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2 and isinstance(kind, str) and kind in ITEM_BYTES
    ):
        raise _unreadable(file, f"the entry of {name[:80]!r} lacks type, shape or place")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[kind]:
        raise _unreadable(file, f"{name[:80]!r} takes {end - begin} bytes, which is not what its shape needs")
    return begin, end


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _unreadable(file: Path, why: str) -> ValueError:
    return ValueError(f"{file} is not a readable safetensors file ({why}); copy it again.")


def _variable(name: str) -> str:
    return f"DPI_MAX_{name.upper()}"


def _positive(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{_variable(name)} is {text!r}, but has to be a positive integer.")
    return int(text)


def _count(number: int) -> str:
    return f"{number:,}"
