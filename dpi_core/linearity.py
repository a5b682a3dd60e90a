"""A scalar for every sample in one pass, for every operator that is linear in its weight.

Two ways give op((1 − λ)θ0 + λθ1, x), sample by sample, where a batch holds many scalars:

    twice    (1 − λ)·op(θ0, x) + λ·op(θ1, x): the whole batch at both ends, twice the multiplications.
    grouped  op(θ(s), x) with a weight for each scalar, in one call: convolutions with a group for each of them. Once the
             multiplications, and the weights have to be made; so where each of them meets many positions.

A `PerSample` stands where a parameter stood; torch asks it what to do at every operator that it meets, and operators that no
parameter enters never see it. Whatever else meets it raises `Unsupported`, and the caller runs one pass per scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ATTRIBUTES = ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda")
"""What a network may read off a parameter without using its value."""

PARAMETER_COST = 128
OPERATOR_COST = {"cpu": 4e6, "cuda": 1e8}
"""What one more pass costs, in multiplications: for every number of θ(s), and for every operator (call, small batch).

Measured on two CPUs (`python -m benchmarks.grouped`) and on a GPU, see benchmarks/NOTES.md."""

DOUBLED, GROUPED = 1.0, 0.15
"""What one pass for all costs beside the multiplications of one forward: at both ends, or with a weight for each scalar."""

TRAINING_COST = 1.8
"""How many times that is with a backward pass; the passes for each scalar then run on several times the memory."""

GROUPED_ON = "cpu"
"""The type of device on which a weight may be made for each scalar; on a GPU that was not measured."""

ROWS, ROWS_IN_16_BITS = 192, 384
"""How many positions a weight has to meet there, in one call for all scalars, to be worth making for each of them.

Measured by `python -m benchmarks.grouped`; multiplications in 16 bits are faster, memory is not."""

SHARE_OF_OUTPUTS = 4
"""How many times the numbers of its outputs the weights of all scalars may have, for training keeps them."""


class Unsupported(BaseException):
    """An operator that one pass cannot answer; not an Exception, so that no backbone catches it by accident."""


class Operator(NamedTuple):
    """One call of an operator that is linear in its weight.

    Attributes:
        positions: of one sample that the weight meets: pixels, tokens, or 1.
        numbers: of the weight.
        fan_in: numbers of the weight that one output sums over.
    """

    positions: int
    numbers: int
    fan_in: int

    def groups(self, samples_per_scalar: int, device: str) -> bool:
        """Whether a weight for each scalar is cheaper than both ends for all samples."""
        if device != GROUPED_ON:
            return False
        rows = self.positions * samples_per_scalar
        enough = ROWS_IN_16_BITS if torch.is_autocast_enabled(device) else ROWS
        return rows >= max(enough, self.fan_in / SHARE_OF_OUTPUTS)


@dataclass
class Pass:
    """One run of a network over samples with a scalar each.

    Attributes:
        batch: samples.
        scalars: distinct ones; they take turns, so that sample b has the one of sample b mod `scalars`.
        shapes: of the input of every operator that a parameter entered.
        operators: those that are linear in their weight.
    """

    batch: int
    scalars: int
    shapes: list[torch.Size] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

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
        meetings: how often a parameter enters an operator; 0 where one pass cannot answer.
        operators: those that are linear in their weight.
    """

    meetings: int
    operators: tuple[Operator, ...] = ()

    def pays(self, scalars: int, weights: int, samples: int, parameters: int, trains: bool, device: str) -> bool:
        """Whether one pass for all samples is cheaper than one pass for every scalar.

        Args:
            scalars: distinct values in the batch.
            weights: how many of every weight a grouped operator needs: `scalars` where they can take turns, else `samples`.
            samples: in the batch.
            parameters: numbers of θ(s).
            trains: whether a backward pass follows.
            device: the type of device it runs on.
        """
        operator_cost = OPERATOR_COST.get(device, OPERATOR_COST["cuda"])
        passes = scalars * (operator_cost * self.meetings + PARAMETER_COST * parameters)
        one_pass = 0.0
        for operator in self.operators:
            grouped = operator.groups(samples // weights, device)
            multiplications = samples * operator.positions * operator.numbers
            one_pass += (GROUPED if grouped else DOUBLED) * (TRAINING_COST if trains else 1.0) * multiplications
            one_pass += PARAMETER_COST * weights * operator.numbers * grouped
        return bool(self.meetings) and passes > one_pass


class PerSample:
    """A parameter that differs from sample to sample: (1 − λ_b)·start + λ_b·end.

    Args:
        start: the parameter in θ0.
        end: the parameter in θ1.
        lam: one λ per sample, (b,), which take turns as the scalars of `run` do.
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


def _linear(func: Callable[..., Tensor], x: Tensor, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    """An operator that is linear in (weight, bias), with its own values of both for every sample."""
    if not isinstance(weight, PerSample):
        return _affine(func(x, weight, None, *args, **kwargs), None, bias, x.ndim - 1 if func is F.linear else 1)
    if isinstance(bias, PerSample) and bias.lam is not weight.lam:
        raise Unsupported("weight and bias follow different curves")
    run = weight.run
    run.meets(x)
    operator = Operator(_positions(func, x, args, kwargs), weight.shape.numel(), weight.shape[1:].numel())
    run.operators.append(operator)
    groups = operator.groups(run.batch // run.scalars, x.device.type) and x.ndim >= weight.ndim
    return (grouped if groups else twice)(func, x, weight, bias, *args, **kwargs)


def twice(func: Callable[..., Tensor], x: Tensor, weight: PerSample, bias: Any, *args: Any, **kwargs: Any) -> Tensor:
    """An operator that is linear in its weight, at both ends for all samples."""
    start = func(x, weight.start, _value(bias, "start"), *args, **kwargs)
    end = func(x, weight.end, _value(bias, "end"), *args, **kwargs)
    return torch.lerp(start, end, _column(weight.lam, start))


def grouped(func: Callable[..., Tensor], x: Tensor, weight: PerSample, bias: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The same in one call with a weight for each scalar."""
    n = weight.run.scalars
    turns, weights, biases = x.unflatten(0, (-1, n)), _of_each_scalar(weight, n), _of_each_scalar(bias, n)
    if func is F.linear:
        rows = turns.movedim(1, 0).flatten(1, -2)
        out = rows @ weights.mT if biases is None else torch.baddbmm(biases[:, None], rows, weights.mT)
        return out.unflatten(1, (len(turns), *x.shape[1:-1])).movedim(0, 1).flatten(0, 1)
    if len(args) > GROUPS:
        args = (*args[:GROUPS], n * args[GROUPS], *args[GROUPS + 1 :])
    else:
        kwargs["groups"] = n * kwargs.get("groups", 1)
    biases = None if biases is None else biases.flatten()
    out = func(turns.flatten(1, 2), weights.flatten(0, 1), biases, *args, **kwargs)
    return out.unflatten(1, (n, -1)).flatten(0, 1)


def _of_each_scalar(parameter: Any, n: int) -> Any:
    """(n, ...) for a parameter, of which a plain one is the same for all."""
    if isinstance(parameter, PerSample):
        return torch.lerp(parameter.start, parameter.end, _column(parameter.lam[:n], parameter.start[None]))
    return None if parameter is None else parameter.expand(n, *parameter.shape)


def _positions(func: Callable[..., Tensor], x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many positions of one sample a weight meets: the outputs', and the inputs' of a transposed convolution."""
    if func is F.linear:
        return x.shape[1:-1].numel()
    stride = kwargs.get("stride", args[0] if args else 1) if func in CONVOLUTIONS else 1
    return x.shape[2:].numel() // (stride ** (x.ndim - 2) if isinstance(stride, int) else math.prod(stride))


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
        values = _of_each_scalar(parameter, len(parameter.lam))
    else:
        values = parameter[None]
    after = ndim - axis - (values.ndim - 1)
    return values.view(len(values), *[1] * (axis - 1), *values.shape[1:], *[1] * after)


def _value(parameter: Any, which: str) -> Any:
    return getattr(parameter, which) if isinstance(parameter, PerSample) else parameter


def _column(lam: Tensor, like: Tensor) -> Tensor:
    return lam.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


GROUPS = 3
"""Where `groups` stands behind a convolution's weight and bias, transposed or not."""

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

OPERATORS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    **dict.fromkeys((F.linear, *CONVOLUTIONS, *TRANSPOSED), _linear),
    F.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
}
