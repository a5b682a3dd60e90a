"""The idx format of MNIST and Fashion-MNIST, read with its header checked before any memory is taken.

A file is two zero bytes, one byte for the type (8: unsigned bytes), one for the number of axes, the length of every
axis as a big-endian 32-bit integer, and the values. See http://yann.lecun.com/exdb/mnist/ for the format and
https://github.com/zalandoresearch/fashion-mnist for files.
"""

import gzip
import hashlib
import math
import struct
import urllib.request
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from dpi_core.limits import Limits

MOST_FETCHED = 2**26
"""Bytes of a published file; Fashion-MNIST's largest has 26 MB."""

FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MNIST_PAGE = "https://github.com/zalandoresearch/fashion-mnist"
FASHION_MNIST_SHA256 = {
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
}
FASHION_MNIST_PIXELS_SHA256 = "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012"
"""Of the training images' values, in their order."""

_UNSIGNED_BYTE = 8
BYTES_IN_MEMORY = {1: 8, 3: 4}
"""Axes of a file -> bytes that one of its values takes: labels become int64, images float32."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Class indices of an idx data set, in the order of its images.

    Attributes:
        train: (n,), int64.
        held_out: (m,), int64.
    """

    train: Int64[Tensor, " n"]
    held_out: Int64[Tensor, " m"]


def idx_path(folder: Path, stem: str) -> Path:
    """Returns the path of `stem` or `stem`.gz in a folder.

    Raises:
        ValueError: neither exists.
    """
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            return path
    raise ValueError(
        f"{folder} holds neither {stem} nor {stem}.gz; pass --data PATH, a folder with the four files of "
        f"{FASHION_MNIST_PAGE} or of MNIST."
    )


def read_idx(path: Path, axes: int) -> UInt8[Tensor, "..."]:
    """Reads one idx file, plain or gzip by its suffix.

    Args:
        path: the file.
        axes: how many axes it has to have: 3 for images, 1 for labels.

    Returns:
        The values in the shape that the header states.

    Raises:
        ValueError: the file is not idx, has other axes, needs more than `Limits.data_bytes`, or its length is not what its
            header states.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            shape = _read_header(stream, path, axes)
            expected = math.prod(shape)
            content = stream.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}); download it again.") from error
    if len(content) != expected:
        found = "more" if len(content) > expected else str(len(content))
        raise ValueError(f"{path} has {found} values where its header states {expected}; download it again.")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)


def idx_labels(folder: Path) -> Labels:
    """Reads the label files of MNIST or Fashion-MNIST.

    Raises:
        ValueError: a file is missing or damaged.
    """
    train, held_out = (read_idx(idx_path(folder, f"{part}-labels-idx1-ubyte"), axes=1) for part in ("train", "t10k"))
    return Labels(train.long(), held_out.long())


def is_fashion_mnist(folder: Path) -> bool:
    """Whether the training images in a folder, packed or not, are Fashion-MNIST's."""
    images = read_idx(idx_path(folder, "train-images-idx3-ubyte"), axes=3)
    return _sha256(images.numpy().tobytes()) == FASHION_MNIST_PIXELS_SHA256


def download_fashion_mnist(folder: Path) -> None:
    """Downloads Fashion-MNIST (31 MB, MIT licence) into a folder; files that are there and intact are kept.

    Raises:
        ValueError: a file cannot be fetched, or its SHA-256 is not the published one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in FASHION_MNIST_SHA256.items():
        path = folder / name
        if not path.is_file() or _sha256(path.read_bytes()) != digest:
            path.write_bytes(_fetch(FASHION_MNIST_URL + name, digest))


def _read_header(stream: BufferedIOBase, path: Path, axes: int) -> tuple[int, ...]:
    header = stream.read(4 + 4 * axes)
    if len(header) != 4 + 4 * axes or header[:4] != bytes([0, 0, _UNSIGNED_BYTE, axes]):
        raise ValueError(
            f"{path} starts with the bytes {header[:4].hex(' ') or 'of an empty file'}, but an idx file of unsigned "
            f"bytes with {axes} axes starts with 00 00 08 {axes:02x}; check that it is the right file."
        )
    shape = struct.unpack(f">{axes}I", header[4:])
    if not math.prod(shape):
        raise ValueError(f"{path} states the shape {shape}, but has to hold values; check that it is the right file.")
    needed = BYTES_IN_MEMORY[axes] * math.prod(shape)
    Limits.from_environment().check("data_bytes", needed, f"{path} as a data set", "check that it is the right file")
    if path.suffix != ".gz" and path.stat().st_size != len(header) + math.prod(shape):
        raise ValueError(f"{path} has {path.stat().st_size} bytes, not those of its shape {shape}; download it again.")
    return shape


def _fetch(url: str, digest: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content = response.read(MOST_FETCHED)
    except OSError as error:
        raise ValueError(
            f"{url} cannot be fetched ({error}); download it by hand from {FASHION_MNIST_PAGE}."
        ) from error
    if _sha256(content) != digest:
        raise ValueError(f"{url} has SHA-256 {_sha256(content)}, not {digest}; get it from {FASHION_MNIST_PAGE}.")
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
