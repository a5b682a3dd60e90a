"""Frozen dataclasses from JSON, strictly: an unknown or missing key is an error that names the key."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_dict(cls: type[T], data: Any, where: str = "config") -> T:
    """Builds the dataclass `cls` from a JSON object.

    Args:
        cls: a dataclass; nested dataclasses and tuples are converted by its annotations.
        data: the JSON object.
        where: the path shown in messages, e.g. `"config.training"`.

    Raises:
        ValueError: an unknown key, a missing key, or a value of the wrong type; the message names key and remedy.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} is {data!r}, but has to be an object with the keys of {cls.__name__}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ValueError(f"{where} has the unknown key {key!r}; {_suggestion(key, fields)}")
    for name, field in fields.items():
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} lacks the key {name!r}, which {cls.__name__} needs: write it there.")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()})


def to_dict(config: Any) -> dict[str, Any]:
    """The JSON object that `from_dict` reads back."""
    return dataclasses.asdict(config)


def _suggestion(key: str, fields: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(key), fields, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(sorted(fields))}."


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(typing.get_args(hint), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, where)
    if origin is dict:
        return _convert_dict(typing.get_args(hint)[1], value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise ValueError(
                f"{where} is {value!r}, but has to be one of {', '.join(map(repr, typing.get_args(hint)))}."
            )
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = origin or hint
    wrong_bool = isinstance(value, bool) and plain is not bool
    if plain is not Any and (wrong_bool or not isinstance(value, plain)):
        raise ValueError(f"{where} is {value!r}, but has to be of type {getattr(plain, '__name__', plain)}.")
    return value


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    for option in options[:-1]:
        try:
            return _convert(option, value, where)
        except ValueError:
            continue
    return _convert(options[-1], value, where)


def _convert_dict(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, but has to be an object.")
    return {str(key): _convert(hint, item, f"{where}.{key}") for key, item in value.items()}


def _convert_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} is {value!r}, but has to be a list.")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_convert(items[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(items) != len(value):
        raise ValueError(f"{where} has {len(value)} entries, but has to have {len(items)}.")
    return tuple(_convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(items, value, strict=True)))
