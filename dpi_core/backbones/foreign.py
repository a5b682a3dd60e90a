"""Backbones that are not ours, made by a function of somebody else's package that the user allowed by name.

A config names the function and its arguments; it is called anew wherever the model is loaded, and nothing is unpickled.
Importing a module runs its code, so a config from a stranger must not choose which: a factory `module:function` is called
only if it is on the list of the environment variable `DPI_FACTORIES` (names separated by commas), given to `load(...,
allow=)` or `--allow`, or if the function itself was handed to `factory`. A name without a colon is an entry point of the
group `dpi_core.backbones` of an installed package; whoever installed the package allowed it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import nn

VARIABLE = "DPI_FACTORIES"
GROUP = "dpi_core.backbones"
Factory = Callable[..., nn.Module]

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_allowed: ContextVar[tuple[str, ...]] = ContextVar("allowed factories", default=())
_handed_over: dict[str, Factory] = {}


@dataclass(frozen=True)
class FactoryConfig:
    """A call that makes a backbone.

    Attributes:
        factory: `module:function`, or the name of an entry point of the group `dpi_core.backbones`.
        arguments: its keyword arguments, as JSON has them.

    Raises:
        ValueError: the name has neither form.
    """

    factory: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (_NAME.fullmatch(self.factory) or re.fullmatch(r"[\w.-]+", self.factory)):
            raise ValueError(
                f"backbone.factory is {self.factory!r}, but has to be module:function, or the name of an entry point."
            )


def factory(function: Factory, **arguments: Any) -> FactoryConfig:
    """The config of a backbone that a function of one's own makes; handing it over allows it in this process.

    Args:
        function: at the top level of a module that can be imported where the model is loaded; of a script, its file.
        **arguments: what JSON can hold.

    Raises:
        ValueError: the function has no name by which it could be found again.
    """
    if "<" in function.__qualname__ or "." in function.__qualname__:
        raise ValueError(
            f"{function.__qualname__} stands inside another function or class, so it cannot be found again; move it to the"
            " top level of a module."
        )
    name = f"{_module_name(function)}:{function.__qualname__}"
    _handed_over[name] = function
    return FactoryConfig(name, arguments)


@contextmanager
def allowing(names: Sequence[str]) -> Iterator[None]:
    """Allows further factories inside the `with` block.

    Raises:
        ValueError: a name is no `module:function`.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"the factory {name!r} cannot be allowed: give module:function, for example my_nets:network."
            )
    token = _allowed.set((*_allowed.get(), *names))
    try:
        yield
    finally:
        _allowed.reset(token)


def build_foreign(config: FactoryConfig) -> nn.Module:
    """Calls the factory.

    Raises:
        ValueError: it is not allowed, is not there, does not take the arguments, or makes no module with parameters.
    """
    function = _find(config.factory)
    try:
        backbone = function(**config.arguments)
    except Exception as error:  # the code of others can fail in any way
        raise ValueError(
            f"the factory {config.factory} failed with the arguments {config.arguments} ({type(error).__name__}: {error});"
            " mend backbone.arguments."
        ) from error
    if not isinstance(backbone, nn.Module):
        raise ValueError(
            f"the factory {config.factory} made a {type(backbone).__name__}, but has to make an nn.Module."
        )
    return backbone


def _find(name: str) -> Factory:
    if name in _handed_over:
        return _handed_over[name]
    if ":" not in name:
        return _entry_point(name)
    if name not in (*_allowed.get(), *filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(",")))):
        raise ValueError(
            f"the backbone is made by {name}, which is not allowed to run here; if you trust it, allow it by"
            f" {VARIABLE}={name} or --allow {name}."
        )
    module, function = name.split(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"the backbone is made by {name}, which is not here ({error}); install its package, or put its folder on"
            " PYTHONPATH."
        ) from error


def _entry_point(name: str) -> Factory:
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = f"there are {', '.join(sorted(found))}" if found else "none is installed"
        raise ValueError(
            f"the backbone is made by the entry point {name!r} of the group {GROUP!r}, but {known}; install its package."
        )
    return found[name].load()


def _module_name(function: Factory) -> str:
    """Of a function in a script, the name under which others import its file."""
    if function.__module__ != "__main__":
        return function.__module__
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise ValueError(
            f"{function.__qualname__} was typed into a session, so it cannot be found again; put it into a file."
        )
    return Path(file).stem
