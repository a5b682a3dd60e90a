"""Checks that the backbones' config dataclasses share."""

from typing import Any


def require_positive_ints(config: Any, *names: str) -> None:
    """Refuses a config whose named fields are not integers of at least 1.

    Args:
        config: the dataclass whose fields are checked.
        *names: names of its integer fields.

    Raises:
        ValueError: a named field is a bool, not an integer, or below 1.
    """
    for name in names:
        value = getattr(config, name)
        if not _is_int(value) or value < 1:
            raise ValueError(
                f"{type(config).__name__}.{name} is {value!r}; it must be an integer of at least 1, "
                f"for example {name}=2."
            )


def require_bools(config: Any, *names: str) -> None:
    """Refuses a config whose named fields are not True or False.

    Args:
        config: the dataclass whose fields are checked.
        *names: names of its boolean fields.

    Raises:
        ValueError: a named field is not a bool.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise ValueError(f"{type(config).__name__}.{name} is {value!r}; it must be a bool, so pass True or False.")


def require_int_tuple(config: Any, name: str, minimum: int) -> None:
    """Refuses a config whose named field is not a tuple of integers.

    Args:
        config: the dataclass that holds the field.
        name: the field's name.
        minimum: the smallest integer allowed.

    Raises:
        ValueError: the field is not a tuple, or an entry is not an integer of at least `minimum`.
    """
    value = getattr(config, name)
    if not isinstance(value, tuple) or not all(_is_int(entry) and entry >= minimum for entry in value):
        raise ValueError(
            f"{type(config).__name__}.{name} is {value!r}; it must be a tuple of integers of at least {minimum}, "
            f"for example {name}=({minimum}, {minimum + 1})."
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
