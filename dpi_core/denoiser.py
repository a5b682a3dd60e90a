"""A conditioned network and a noise process make a denoiser: x̂0, ε, score and velocity at any s."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.interpolation import DPI
from dpi_core.noise_processes import Kind, NoiseProcess
from dpi_core.sample_batches import has_hooks
from dpi_core.types import Scalar, per_sample

CPU_PASS = 2**15
"""Numbers of x in one pass on a processor: the layers' outputs stay in its caches (measured in benchmarks/sampling.py)."""


@dataclass(frozen=True)
class Prediction:
    """Four views of one network output, each shape (b, ...); None where the quantity is undefined at this s.

    Attributes:
        x0: x̂0.
        view: makes the others; a sampler looks at one of them, so none is made before it is asked for.
    """

    x0: Tensor
    view: Callable[[Kind], Tensor | None] = field(repr=False)

    @property
    def eps(self) -> Tensor | None:
        """ε̂."""
        return self.view("eps")

    @property
    def score(self) -> Tensor | None:
        """The score, the gradient of the log density at x_s."""
        return self.view("score")

    @property
    def velocity(self) -> Tensor | None:
        """dx/ds."""
        return self.view("velocity")


class Denoiser(nn.Module):
    """x̂0(x_s, s) = c_skip·x_s + c_out·F(c_in·x_s, s) for a network F under the contract `net(x, s)`.

    Args:
        net: DPI or another conditioning; its output has the shape of its input.
        process: the noise process it was trained on.
    """

    def __init__(self, net: nn.Module, process: NoiseProcess) -> None:
        super().__init__()
        self.net = net
        self.process = process

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.net.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self.net.parameters()).device

    def forward(self, x_s: Float[Tensor, "b ..."], s: Scalar, s_theta: Scalar | None = None) -> Float[Tensor, "b ..."]:
        """x̂0 = E[x0 | x_s], in the dtype of `x_s`.

        Args:
            x_s: noised samples, shape (b, ...), on the network's device.
            s: noise level in [0, 1], shape () or (b,); on the CPU, so that its range is checked without a device sync.
            s_theta: the scalar given to the network, if it is to differ from the noise level.
        """
        return self._clean(x_s, self.network_output(x_s, s, s_theta), s)

    def network_output(self, x_s: Float[Tensor, "b ..."], s: Scalar, s_theta: Scalar | None = None) -> Tensor:
        """F(c_in·x_s, s) in the dtype of `x_s`: what the process calls its prediction."""
        scaled, s_net = self.network_input(x_s, s).to(self.dtype), self.physical(s if s_theta is None else s_theta)
        parts = self._count_parts(scaled, s_net)
        if parts == 1:
            return self.net(scaled, s_net).to(x_s.dtype)
        return torch.cat([self.net(part, s_net) for part in scaled.chunk(parts)]).to(x_s.dtype)

    def network_input(self, x_s: Float[Tensor, "b ..."], s: Scalar) -> Tensor:
        """c_in·x_s, in the dtype of `x_s`."""
        return per_sample(self.process.preconditioning(s).c_in, x_s) * x_s

    def predict(self, x_s: Float[Tensor, "b ..."], s: Scalar, s_theta: Scalar | None = None) -> Prediction:
        """x̂0, ε, score and velocity from one network call; None for those undefined at this s."""
        output = self.network_output(x_s, s, s_theta)
        x0 = self._clean(x_s, output, s)
        # From the network's own quantity where it is one of the five: nothing is lost to cancellation at small σ.
        given: Kind = "x0" if self.process.prediction == "edm" else self.process.prediction  # type: ignore[assignment]
        value = x0 if given == "x0" else output

        def view(kind: Kind) -> Tensor | None:
            exists = self.process.exists(kind, s, given)
            return self.process.convert(value, given, kind, x_s, s) if exists else None

        return Prediction(x0, view)

    def lam(self, s: Scalar) -> Tensor | None:
        """λ(s), or None for a network without two parameter sets."""
        return self.net.lam(self.physical(s)) if isinstance(self.net, DPI) else None

    @torch.no_grad()
    def mean_lam(self, s: Sequence[float]) -> Float[Tensor, " t"] | None:
        """λ at t scalars, on the CPU; with groups their mean, which stands for them where there is room for one curve."""
        lam = self.lam(torch.tensor(s, dtype=torch.float64))
        return None if lam is None else lam.cpu().reshape(len(s), -1).mean(1)

    def physical(self, s: Scalar) -> Scalar:
        """S in the unit the network takes it in: s itself, or the units of a DPI's `scalar`."""
        physical = self.net.scalar if isinstance(self.net, DPI) else None
        return s if physical is None else physical.from_unit(s)

    def _count_parts(self, x: Tensor, s: Scalar) -> int:
        """In how many passes a batch goes through the network; in one wherever a pass could notice."""
        parts = min(len(x), math.ceil(x.numel() / CPU_PASS))
        is_plain = x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if parts <= 1 or not is_plain or isinstance(s, Tensor) and s.ndim > 0:
            return 1
        mixes = self.net.training or getattr(self.net, "batch_dim", 0) != 0
        return 1 if mixes or has_hooks(self.net) else parts

    def _clean(self, x_s: Tensor, output: Tensor, s: Scalar) -> Tensor:
        pre = self.process.preconditioning(s)
        return per_sample(pre.c_skip, x_s) * x_s + per_sample(pre.c_out, x_s) * output
