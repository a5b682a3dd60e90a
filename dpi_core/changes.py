"""Whether tensors still hold what they held when something that is kept was made of them.

torch counts the changes of a tensor, but neither those by fused optimisers nor those through `.data`. So the steps of all
optimisers are counted here, and on a CPU, where that takes microseconds, some of the numbers are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

SAMPLED = 16
"""Numbers that are looked at, of every tensor."""

_steps = 0


def count_step(*_: Any) -> None:
    """Says that an optimiser may have written into any tensor; optimisers do by themselves, but not a replayed step."""
    global _steps
    _steps += 1


register_optimizer_step_post_hook(count_step)


class Snapshot:
    """What tensors were at a moment; holds them, so that none of them can come back at another's address.

    Args:
        tensors: no inference tensors, of whose changes there is no record.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tuple(tensors)
        self._state = _state(tensors)

    def shows(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the same tensors, and unchanged.

        Not noticed: writes through `.data` on another device than the CPU, and on the CPU those of a few numbers.
        """
        same = len(tensors) == len(self._tensors) and all(a is b for a, b in zip(tensors, self._tensors, strict=True))
        return same and _state(tensors) == self._state


def _state(tensors: Iterable[Tensor]) -> tuple[Any, ...]:
    return _steps, *((t._version, t.data_ptr(), t.dtype, _some_numbers(t)) for t in tensors)


def _some_numbers(tensor: Tensor) -> list[Any] | None:
    if tensor.device.type != "cpu":
        return None
    return tensor.detach().flatten()[:: max(1, tensor.numel() // SAMPLED)].tolist()
