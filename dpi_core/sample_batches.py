"""Batches of any structure, divided by samples and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

PLAIN = (int, float, str, type(None))
"""Output values that are taken over as they are if they are the same for every scalar."""


class Groups(NamedTuple):
    """A batch divided into samples that share a scalar.

    Attributes:
        values: the scalar of each group, (n,).
        rows: the samples of each group: a stretch of the batch, or their indices.
        back: the place of each sample of the batch among those of the groups, (b,); None where they stand in order.
    """

    values: Tensor
    rows: tuple[slice | Tensor, ...]
    back: Tensor | None

    def size(self, group: int) -> int:
        """Samples in a group."""
        rows = self.rows[group]
        return rows.stop - rows.start if isinstance(rows, slice) else len(rows)

    @property
    def equal(self) -> bool:
        """Whether all groups have as many samples."""
        return len(set(map(self.size, range(len(self.rows))))) == 1

    def turns(self) -> Tensor:
        """The samples in an order in which equal groups take turns: the first of each, the second of each, (b,)."""
        stood = torch.arange(sum(map(self.size, range(len(self.rows)))))
        each = [stood[rows] if isinstance(rows, slice) else rows for rows in self.rows]
        return torch.stack(each, 1).flatten()


def by_value(s: Float[Tensor, " b"]) -> Groups:
    """The samples whose scalars are equal, wherever they stand; reads s back from a device."""
    values, lengths = torch.unique_consecutive(s, return_counts=True)
    if len(torch.unique(values)) == len(values):
        return Groups(values, _stretches(lengths.tolist()), None)
    values, which = torch.unique(s, return_inverse=True)
    order = torch.argsort(which, stable=True)
    return Groups(values, order.split(torch.bincount(which, minlength=len(values)).tolist()), torch.argsort(order))


def in_stretches(s: Float[Tensor, " b"], lengths: Sequence[int]) -> Groups:
    """Consecutive samples whose scalars are known to be equal; reads nothing back from a device.

    Raises:
        ValueError: the lengths do not add up to the batch.
    """
    if sum(lengths) != len(s):
        raise ValueError(f"stretches of {sum(lengths)} samples in all do not make a batch of {len(s)}; state each one.")
    rows = _stretches(lengths)
    return Groups(torch.stack([s[each.start] for each in rows]), rows, None)


def _stretches(lengths: Sequence[int]) -> tuple[slice, ...]:
    ends = list(accumulate(lengths))
    return tuple(slice(end - length, end) for length, end in zip(lengths, ends, strict=True))


def take(inputs: Any, rows: slice | Tensor, axis: int, batch: int) -> Any:
    """Some samples of inputs of any structure: of every tensor that has `batch` entries along the axis."""

    def of(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.ndim <= axis or leaf.shape[axis] != batch:
            return leaf
        if isinstance(rows, slice):
            return leaf.narrow(axis, rows.start, rows.stop - rows.start)
        return leaf.index_select(axis, rows.to(leaf.device))

    return pytree.tree_map(of, inputs)


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


def merge(parts: tuple[Any, ...], axis: int | None, back: Tensor | None) -> Any:
    """Puts one output of several parts of a batch together.

    Args:
        parts: the output of each part.
        axis: which of its axes counts samples; None for a plain value.
        back: the place of each sample of the whole batch among those of the parts, (b,); None where they are in order.

    Raises:
        ValueError: neither a tensor nor a plain value that all parts share.
    """
    if axis is not None:
        whole = torch.cat(parts, dim=axis)
        return whole if back is None else whole.index_select(axis, back.to(whole.device))
    if all(isinstance(part, PLAIN) and part == parts[0] for part in parts):
        return parts[0]
    raise ValueError(
        f"an output of type {type(parts[0]).__name__} cannot be put together from several scalars; return tensors, tuples"
        " or dicts, or make its class known by torch.export.register_dataclass."
    )


@contextmanager
def on_trial(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients for a run that shall leave no trace: buffers come back as they were."""
    kept = [
        (owner, name, buffer, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    try:
        with evaluating(module), torch.no_grad():
            yield
    finally:
        for owner, name, buffer, before in kept:
            owner._buffers[name] = buffer
            buffer.data.copy_(before)


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
