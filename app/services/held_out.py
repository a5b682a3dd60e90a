"""Held-out data of the sets that were read lately: a request wants a few samples of them, and so does the next. Imports torch."""

from __future__ import annotations

from pathlib import Path

from app.services.bounded import BoundedCache
from dpi_core.data import Data, DataConfig, HeldOutImages, load_data

MOST_BYTES = 128 * 2**20
"""Of all images that are kept together; what is read least goes first."""

_Files = tuple[int, int, int]

_kept: BoundedCache[tuple[DataConfig, Path | None, _Files], HeldOutImages] = BoundedCache(
    MOST_BYTES, lambda images: images.held_out.nbytes
)


def held_out(config: DataConfig, folder: Path | None = None) -> Data | HeldOutImages:
    """A data set to draw held-out samples from; images are read again when a file of theirs changes.

    Args:
        config: which one.
        folder: with its files, for the kinds that have some.

    Raises:
        ValueError: the folder is needed and missing, or its files are damaged.
    """
    key = config, folder, _files(folder)
    kept = _kept.find(key)
    if kept is not None:
        return kept
    data = load_data(config, folder)
    if not isinstance(data, HeldOutImages):
        return data  # a distribution, which nobody has read
    # Without the training images, which are the most of it.
    images = HeldOutImages(held_out=data.held_out, name=data.name, licence=data.licence, source=data.source)
    _kept.keep(key, images)
    return images


def _files(folder: Path | None) -> _Files:
    """How many files there are, their bytes, and when the last of them was written."""
    about = [file.stat() for file in folder.rglob("*") if file.is_file()] if folder is not None else []
    newest = max((each.st_mtime_ns for each in about), default=0)
    return len(about), sum(each.st_size for each in about), newest
