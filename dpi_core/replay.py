"""A training step on a GPU, recorded once and replayed: what a small network costs there is the launching of its kernels.

The first steps are launched as ever; the next one is recorded as a CUDA graph, and from then on the device repeats it on new
numbers in the same memory. So the step has to do the same work every time: no branch on a value, nothing read back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dpi_core.changes import count_step
from dpi_core.interpolation import DPI

LAUNCHED = 3
"""Steps before the recording, in which libraries choose their kernels and take their memory."""


class Replay:
    """Takes steps that are given tensors on the CPU, whose last is one scalar s per sample.

    Args:
        step: computes on the device; given and returning tensors there.
        net: the network it runs, which is told which samples share a scalar.
        device: a CUDA device.
        layout: of images in its memory.
    """

    def __init__(
        self,
        step: Callable[[Any], tuple[Tensor, Tensor]],
        net: nn.Module,
        device: torch.device,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.step, self.net, self.device, self.layout = step, net, device, layout
        self.launched = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.room: Any = None
        self.lengths: tuple[int, ...] = ()
        self.results: tuple[Tensor, Tensor] | None = None

    def __call__(self, problem: Any) -> tuple[Tensor, Tensor]:
        """The step's two results, in tensors of their own."""
        lengths = tuple(torch.unique_consecutive(problem[-1], return_counts=True)[1].tolist())
        if self.room is None:
            self.room = type(problem)(*map(self._room, problem))
            self.lengths = lengths
        for place, value in zip(self.room, problem, strict=True):
            place.copy_(value.pin_memory(), non_blocking=True)
        if self.launched < LAUNCHED or lengths != self.lengths:
            return self._launch(lengths)
        if self.graph is None:
            self._record()
        if self.graph is None or self.results is None:
            return self._launch(lengths)
        self.graph.replay()
        count_step()
        return self.results[0].clone(), self.results[1].clone()

    def _room(self, value: Tensor) -> Tensor:
        layout = self.layout if value.ndim == 4 else torch.contiguous_format
        return torch.empty_like(value, device=self.device, memory_format=layout)

    def _launch(self, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        self.launched += 1
        aside, current = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside), self._told(lengths):
            results = self.step(self.room)
        current.wait_stream(aside)
        return results

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with self._told(self.lengths), torch.cuda.graph(graph):
                self.results = self.step(self.room)
            self.graph = graph
        except RuntimeError as error:
            self.launched = -(2**62)  # and never again
            warnings.warn(
                f"The training step cannot be recorded ({str(error).splitlines()[0]}), so its kernels are launched one by one.",
                stacklevel=2,
            )

    def _told(self, lengths: Sequence[int]) -> Any:
        return self.net.in_stretches(lengths) if isinstance(self.net, DPI) else nullcontext()
