"""Batches of any structure, divided by samples and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

PLAIN = (int, float, str, type(None))
"""Output values that are taken over as they are if they are the same for every scalar."""


def batch_size(x: Any, batch_dim: int) -> int | None:
    """Number of samples in an input of any structure, read off its first tensor; None where there is none."""
    for leaf in pytree.tree_leaves(x):
        if isinstance(leaf, Tensor) and leaf.ndim > batch_dim:
            return leaf.shape[batch_dim]
    return None


def signature(inputs: Any, batch: int) -> tuple[Any, ...]:
    """The form of inputs without the number of samples: equal for two calls that differ in that number only."""
    leaves, spec = pytree.tree_flatten(inputs)
    forms = (
        tuple(-1 if length == batch and axis == 0 else length for axis, length in enumerate(leaf.shape))
        if isinstance(leaf, Tensor)
        else leaf
        if isinstance(leaf, PLAIN)
        else type(leaf)
        for leaf in leaves
    )
    return (*forms, str(spec))


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody listens to a module or to one inside it."""
    return any(child._forward_hooks or child._forward_pre_hooks or child._backward_hooks for child in module.modules())


def sample_axis(some: Any, whole: Any, part: int, batch: int) -> int | None:
    """The axis of length `part` in the output of some samples and `batch` in that of all; None for what is no tensor."""
    if not isinstance(some, Tensor):
        return None
    for axis, (length, full) in enumerate(zip(some.shape, whole.shape, strict=True)):
        if length == part and full == batch:
            return axis
    raise ValueError(
        f"an output of shape {tuple(whole.shape)} has no axis that counts the {batch} samples, so a batch with several"
        " scalars cannot be put together; call once per scalar."
    )


def merge(parts: tuple[Any, ...], axis: int | None, back: Tensor) -> Any:
    """Puts one output of several parts of a batch together.

    Args:
        parts: the output of each part.
        axis: which of its axes counts samples; None for a plain value.
        back: the place of each sample of the whole batch among those of the parts, (b,).

    Raises:
        ValueError: neither a tensor nor a plain value that all parts share.
    """
    if axis is not None:
        whole = torch.cat(parts, dim=axis)
        return whole.index_select(axis, back.to(whole.device))
    if all(isinstance(part, PLAIN) and part == parts[0] for part in parts):
        return parts[0]
    raise ValueError(
        f"an output of type {type(parts[0]).__name__} cannot be put together from several scalars; return tensors, tuples"
        " or dicts, or make its class known by torch.export.register_dataclass."
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every submodule gets its own mode back."""
    training = [child for child in module.modules() if child.training]
    if training:
        module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True
