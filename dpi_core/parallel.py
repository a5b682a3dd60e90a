"""One process or several: which part of a batch each computes, and how they come to the same step.

Every process draws the same whole batch and computes its own part of it, so a run does not depend on their number.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class Team:
    """One process alone; `join` gives the one that stands for several.

    Args:
        device: where it computes.
    """

    rank, size = 0, 1

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *exception: object) -> None: ...

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch, (b, ...) -> (about b / size, ...)."""
        return batch.tensor_split(self.size)[self.rank]

    def wrap(self, module: nn.Module) -> nn.Module:
        """A module whose gradients become the mean over all processes."""
        return module

    def apart(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        """While it lasts, gradients add up in each process without being shared."""
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes."""
        return value


class _Several(Team):
    def __init__(self, device: str | torch.device) -> None:
        from accelerate import Accelerator

        self._accelerator = Accelerator(cpu=torch.device(device).type == "cpu")
        super().__init__(self._accelerator.device)
        self.rank, self.size = self._accelerator.process_index, self._accelerator.num_processes

    def __exit__(self, *exception: object) -> None:
        self._accelerator.end_training()

    def wrap(self, module: nn.Module) -> nn.Module:
        return self._accelerator.prepare_model(module)

    def apart(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        return self._accelerator.no_sync(wrapped)

    def mean(self, value: Tensor) -> Tensor:
        return self._accelerator.reduce(value, "mean")


def join(device: str | torch.device = "cpu") -> Team:
    """The processes that `accelerate launch` or `torchrun` started together, or this one alone.

    Args:
        device: "cpu" computes on CPUs (gloo); another device on one of its kind for each process.
    """
    return _Several(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Team(device)
