"""Records as bytes, for a computation on another machine: JSON for what can be read, NumPy's own format for arrays.

Nothing is pickled: foreign bytes become records of known kinds, or a `ValueError`, and run no code.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np

from app import records
from app.records import Result
from app.services.jobs import Outcome

MOST_BYTES = 2**30
"""Of one message."""


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a computation is; the attributes are the arguments of `Report`."""

    done: int = 0
    total: int = 0
    partial: Result | None = None


class Readable(Protocol):
    """A file, or the body of an answer."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


RECORDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (*vars(records).values(), Progress, Outcome)
    if isinstance(kind, type) and is_dataclass(kind)
}
"""What may travel, by name."""


def pack(record: Any) -> bytes:
    """A record as bytes."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_plain(record, arrays))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, text=np.frombuffer(text.encode(), np.uint8), **arrays)
    return buffer.getvalue()


def unpack(content: bytes) -> Any:
    """The record that `pack` was given.

    Raises:
        ValueError: the bytes are not those of a record.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return _record(json.loads(arrays["text"].tobytes()), arrays)
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"this is no message of DPI Explorer ({error}); both sides need the same version.") from error


def frame(record: Any) -> bytes:
    """A record as one of several messages in a row: its length in eight bytes, then itself."""
    content = pack(record)
    return len(content).to_bytes(8, "big") + content


def frames(stream: Readable) -> Iterator[Any]:
    """The records of messages in a row.

    Raises:
        EOFError: the stream ends within a message.
        ValueError: the bytes are not those of records.
    """
    while head := stream.read(8):
        size = int.from_bytes(_whole(head, 8), "big")
        if size > MOST_BYTES:
            raise ValueError(f"a message of {size} bytes is more than the {MOST_BYTES} that are taken.")
        yield unpack(_whole(stream.read(size), size))


def _whole(content: bytes, size: int) -> bytes:
    if len(content) < size:
        raise EOFError(f"{len(content)} of {size} bytes came.")
    return content


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What JSON can hold; arrays and bytes are put aside, and named."""
    if isinstance(value, np.ndarray | bytes):
        name = f"array{len(arrays)}"
        arrays[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        return {type(value).__name__: name}
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        values = {item.name: _plain(getattr(value, item.name), arrays) for item in fields(value) if item.init}
        return {"record": type(value).__name__, "fields": values}
    if isinstance(value, tuple | list):
        items = [_plain(item, arrays) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {"dict": [[key, _plain(item, arrays)] for key, item in value.items()]}
    return value


def _record(plain: Any, arrays: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(plain, list):
        return [_record(item, arrays) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "record" in plain:
        values = {name: _record(value, arrays) for name, value in plain["fields"].items()}
        return RECORDS[plain["record"]](**values)
    ((kind, value),) = plain.items()
    if kind == "tuple":
        return tuple(_record(item, arrays) for item in value)
    if kind == "dict":
        return {key: _record(item, arrays) for key, item in value}
    return arrays[value].tobytes() if kind == "bytes" else arrays[value]
