"""A memory of bounded size for what is dear to make. No torch, no streamlit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Least recently used values go first once they hold more than `limit` bytes together; thread-safe.

    Args:
        limit: in bytes.
        size: the bytes of a value, always the same for the same value.

    Attributes:
        limit: in bytes.
        held: bytes of all values in it.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit = limit
        self.held = 0
        self._size = size
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Key) -> Value | None:
        """The value, now the most recently used."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Key, value: Value) -> None:
        """Stores a value, unless it is larger than the whole cache."""
        size = self._size(value)
        if size > self.limit:
            return
        with self._lock:
            if key in self._kept:
                self.held -= self._size(self._kept.pop(key))
            while self.held + size > self.limit:
                self.held -= self._size(self._kept.popitem(last=False)[1])
            self._kept[key] = value
            self.held += size

    def drop(self, is_unwanted: Callable[[Key], bool]) -> None:
        """Takes out the values of some keys."""
        with self._lock:
            for key in [key for key in self._kept if is_unwanted(key)]:
                self.held -= self._size(self._kept.pop(key))
