"""A scalar for every sample in one pass: op((1 − λ)θ0 + λθ1, x) = (1 − λ)·op(θ0, x) + λ·op(θ1, x).

The identity holds, sample by sample, for every operator that is linear in its weight, so a batch of many scalars needs each
of them twice and not one pass per scalar. A `PerSample` stands where a parameter stood; torch asks it what to do at every
operator that it meets, and operators that no parameter enters never see it. Whatever else meets it raises `Unsupported`,
and the caller runs one pass per scalar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ATTRIBUTES = ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda")
"""What a network may read off a parameter without using its value."""

PARAMETER_COST = 32
OPERATOR_COST = {"cpu": 4e6, "cuda": 1e8}
"""What one more pass costs, in multiplications: for every number of θ(s), and for every operator (call, small batch).

Measured on two CPUs with 2-D U-Nets of 0.5 M and an MLP of 0.2 M parameters, and on a GPU, see benchmarks/NOTES.md."""

TRAINING_COST = 1.8
"""The same comparison with a backward pass, where one pass for all also keeps twice the outputs."""


class Unsupported(BaseException):
    """An operator that one pass cannot answer; not an Exception, so that no backbone catches it by accident."""


@dataclass
class Pass:
    """One run of a network over samples with a scalar each.

    Attributes:
        batch: samples.
        shapes: of the input of every operator that a parameter entered.
        multiplications: of those operators, for all samples.
    """

    batch: int
    shapes: list[torch.Size] = field(default_factory=list)
    multiplications: int = 0

    def meets(self, x: Any) -> None:
        """Notes an operator's input.

        Raises:
            Unsupported: its first axis does not count the samples.
        """
        if not isinstance(x, Tensor) or x.ndim < 2 or len(x) != self.batch:
            raise Unsupported("the samples are not along the first axis")
        self.shapes.append(x.shape)


@dataclass(frozen=True)
class Plan:
    """What is known of a network for inputs of one form.

    Attributes:
        operators: how many operators with parameters it has; 0 where one pass cannot answer.
        multiplications: of one sample.
    """

    operators: int
    multiplications: float

    def pays(self, scalars: int, samples: int, parameters: int, trains: bool, device: str = "cpu") -> bool:
        """Whether one pass with every operator twice is cheaper than one pass for every scalar.

        Args:
            scalars: distinct values in the batch.
            samples: in the batch.
            parameters: numbers of θ(s).
            trains: whether a backward pass follows.
            device: the type of device it runs on.
        """
        operator_cost = OPERATOR_COST.get(device, OPERATOR_COST["cuda"])
        passes = scalars * (operator_cost * self.operators + PARAMETER_COST * parameters)
        return bool(self.operators) and passes > (TRAINING_COST if trains else 1.0) * samples * self.multiplications


class PerSample:
    """A parameter that differs from sample to sample: (1 − λ_b)·start + λ_b·end.

    Args:
        start: the parameter in θ0.
        end: the parameter in θ1.
        lam: one λ per sample, (b,).
        run: notes the operators.
    """

    def __init__(self, start: Tensor, end: Tensor, lam: Tensor, run: Pass) -> None:
        self.start, self.end, self.lam, self.run = start, end, lam, run

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            return getattr(self.start, name)
        if hasattr(Tensor, name):
            raise Unsupported(name)
        raise AttributeError(name)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Tensor:
        """Answers the operators of `OPERATORS`."""
        if func not in OPERATORS:
            raise Unsupported(getattr(func, "__name__", str(func)))
        return OPERATORS[func](func, *args, **(kwargs or {}))


def _unsupported(name: str) -> Callable[..., Any]:
    def raises(*_: Any, **__: Any) -> Any:
        raise Unsupported(name)

    return raises


# Python looks operators up in the class. `==` would otherwise compare identities, and say False without a word.
for _name in {name for name in dir(Tensor) if name.startswith("__") and callable(getattr(Tensor, name))} - {
    *dir(PerSample)
}:
    setattr(PerSample, _name, _unsupported(_name))
for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(PerSample, _name, _unsupported(_name))


def _twice(func: Callable[..., Tensor], x: Tensor, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    """An operator that is linear in (weight, bias): at θ0, at θ1, and between the two for every sample."""
    known = weight if isinstance(weight, PerSample) else bias
    if isinstance(bias, PerSample) and bias.lam is not known.lam:
        raise Unsupported("weight and bias follow different curves")
    known.run.meets(x)
    start = func(x, _value(weight, "start"), _value(bias, "start"), *args, **kwargs)
    end = func(x, _value(weight, "end"), _value(bias, "end"), *args, **kwargs)
    # Every output sums over a row of the weight; in a transposed convolution every input is spread over one.
    known.run.multiplications += (x if func in TRANSPOSED else start).numel() * weight.shape[1:].numel()
    return torch.lerp(start, end, _column(known.lam, start))


def _group_norm(
    func: Callable[..., Tensor], x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    return _affine(func(x, groups, None, None, eps), weight, bias, 1)


def _layer_norm(
    func: Callable[..., Tensor], x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    return _affine(func(x, shape, None, None, eps), weight, bias, x.ndim - len(shape))


def _rms_norm(
    func: Callable[..., Tensor], x: Tensor, shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    return _affine(func(x, shape, None, eps), weight, None, x.ndim - len(shape))


def _affine(x: Tensor, weight: Any, bias: Any, axis: int) -> Tensor:
    """x·weight + bias with every sample's own values; their axes start at `axis` of x."""
    for parameter in (weight, bias):
        if isinstance(parameter, PerSample):
            parameter.run.meets(x)
    scale, shift = _broadcast(weight, x.ndim, axis), _broadcast(bias, x.ndim, axis)
    if shift is None:
        return x if scale is None else x * scale
    return x + shift if scale is None else torch.addcmul(shift, x, scale)


def _broadcast(parameter: Any, ndim: int, axis: int) -> Tensor | None:
    if parameter is None:
        return None
    if isinstance(parameter, PerSample):
        values = torch.lerp(parameter.start, parameter.end, _column(parameter.lam, parameter.start[None]))
    else:
        values = parameter[None]
    after = ndim - axis - (values.ndim - 1)
    return values.view(len(values), *[1] * (axis - 1), *values.shape[1:], *[1] * after)


def _value(parameter: Any, which: str) -> Any:
    return getattr(parameter, which) if isinstance(parameter, PerSample) else parameter


def _column(lam: Tensor, like: Tensor) -> Tensor:
    return lam.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

OPERATORS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    **dict.fromkeys((F.linear, *CONVOLUTIONS, *TRANSPOSED), _twice),
    F.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
}
