"""Two parameter sets in two flat buffers: where each backbone parameter lies, and their blend as one graph node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

Patterns = str | Sequence[str]


@dataclass(frozen=True)
class Segment:
    """One backbone parameter's place in the flat buffers."""

    name: str
    shape: tuple[int, ...]  # not a torch.Size, which `view` is slower to read
    is_complex: bool
    group: int
    numel: int

    def view(self, flat: Tensor) -> Tensor:
        """The parameter, seen in its own 1-D stretch of a flat buffer."""
        if self.is_complex:
            return torch.view_as_complex(flat.view(*self.shape, 2))
        return flat.view(self.shape)


class Slot(NamedTuple):
    """A place in the backbone where a parameter stands; tied parameters have several.

    It is watched where the module overrides `__setattr__`: recurrent ones keep a list of their weights beside.
    """

    module: nn.Module
    path: str
    key: str
    segment: int
    watched: bool


class Blend(torch.autograd.Function):
    """θ(s) = (1 − λ)θ0 + λθ1 on flat buffers, for n rows of λ with one entry per group, as one node of the graph.

    grad θ0 = Σ (1 − λ)g, grad θ1 = Σ λg, grad λ = <g, θ1 − θ0>; summed in place, without a copy per scalar.
    """

    @staticmethod
    def forward(
        theta0: Tensor, theta1: Tensor, lam: Float[Tensor, "n g"], sizes: list[int], rooms: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """N flat buffers; `sizes` are the lengths of the groups' stretches, `rooms` memory to use before any is taken."""
        starts, ends = theta0.split(sizes), theta1.split(sizes)
        blends = []
        for row in lam:
            blend = rooms.pop() if rooms else torch.empty_like(theta0)
            for start, end, weight, out in zip(starts, ends, row, blend.split(sizes), strict=True):
                torch.lerp(start, end, weight, out=out)
            blends.append(blend)
        return tuple(blends)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keeps the inputs; gradients of unused outputs stay None."""
        theta0, theta1, lam, ctx.sizes, _ = inputs
        ctx.save_for_backward(theta0, theta1, lam)
        ctx.save_for_forward(theta0, theta1, lam)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        """One pass over the gradients of the blends; those that nobody asks for are left out."""
        theta0, theta1, lam = ctx.saved_tensors
        learns = any(ctx.needs_input_grad[:2])
        grad0, grad1 = (torch.zeros_like(theta) if learns else None for theta in (theta0, theta1))
        grad_lam = torch.zeros_like(lam)
        apart = theta1 - theta0 if ctx.needs_input_grad[2] else None
        for i, grad in enumerate(grads):
            if grad is None:
                continue
            if grad0 is not None and grad1 is not None:
                stretches = zip(*(_stretches(flat, ctx.sizes) for flat in (grad, grad0, grad1)), strict=True)
                for j, (piece, piece0, piece1) in enumerate(stretches):
                    piece0.addcmul_(piece, 1 - lam[i, j])
                    piece1.addcmul_(piece, lam[i, j])
            if apart is not None:
                dots = [torch.dot(a, b) for a, b in zip(grad.split(ctx.sizes), apart.split(ctx.sizes), strict=True)]
                grad_lam[i] = torch.stack(dots)
        return grad0, grad1, grad_lam, None, None

    @staticmethod
    def jvp(ctx: Any, d_theta0: Tensor | None, d_theta1: Tensor | None, d_lam: Tensor | None, *_: None) -> Any:
        """Forward-mode derivative."""
        theta0, theta1, lam = ctx.saved_tensors
        per_number = torch.tensor(ctx.sizes, device=lam.device)
        tangents = []
        for i, row in enumerate(lam):
            weight = row.repeat_interleave(per_number)
            tangent = torch.zeros_like(theta0)
            if d_theta0 is not None:
                tangent = tangent + (1 - weight) * d_theta0
            if d_theta1 is not None:
                tangent = tangent + weight * d_theta1
            if d_lam is not None:
                tangent = tangent + d_lam[i].repeat_interleave(per_number) * (theta1 - theta0)
            tangents.append(tangent)
        return tuple(tangents)


def blend(
    theta0: Tensor, theta1: Tensor, lam: Float[Tensor, "n g"], sizes: list[int], rooms: list[Tensor]
) -> tuple[Tensor, ...]:
    """`Blend`, without the graph's machinery where no derivative of any kind is recorded."""
    if derivatives_recorded():
        return Blend.apply(theta0, theta1, lam, sizes, rooms)
    return Blend.forward(theta0, theta1, lam, sizes, rooms)


def derivatives_recorded() -> bool:
    """Whether a derivative of any kind may be asked for: backward, forward, or by functorch."""
    return torch.is_grad_enabled() or transforms_active()


def transforms_active() -> bool:
    """Whether forward-mode derivatives or functorch's transforms are at work, whose tensors may not be kept."""
    return forward_ad._current_level >= 0 or bool(torch._C._are_functorch_transforms_active())


def is_unshared(flat: Tensor) -> bool:
    """Whether no other tensor, wherever it is kept, uses the memory of this one; False where torch cannot tell."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    return count is not None and count(flat.untyped_storage()._cdata) == 2  # the tensor's, and the one looked at here


def _stretches(flat: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """The groups' stretches, one after another."""
    # Not `split`: its views may not be written to while a second derivative is recorded.
    start = 0
    for size in sizes:
        yield flat.narrow(0, start, size)
        start += size


def matches(name: str, patterns: Patterns) -> bool:
    """Whether a parameter's name matches one of the glob patterns."""
    return any(fnmatchcase(name, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))


def parameters_in_scope(backbone: nn.Module, scope: Patterns) -> tuple[list[list[str]], list[nn.Parameter]]:
    """Trainable parameters that match the scope, each with all its names (tied ones have several)."""
    _refuse_compiled(backbone)
    names: dict[int, list[str]] = {}
    parameters: dict[int, nn.Parameter] = {}
    for name, parameter in backbone.named_parameters(remove_duplicate=False):
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"the parameter {name!r} is lazy and has no shape yet; run the backbone once on an input first."
            )
        if parameter.requires_grad:
            names.setdefault(id(parameter), []).append(name)
            parameters[id(parameter)] = parameter
    if not parameters:
        raise ValueError(
            f"{type(backbone).__name__} has no trainable parameter to interpolate; pass a network with parameters, and"
            " call requires_grad_(True) if they are frozen."
        )
    chosen = [key for key, aliases in names.items() if any(matches(alias, scope) for alias in aliases)]
    if not chosen:
        known = ", ".join(aliases[0] for aliases in list(names.values())[:6])
        raise ValueError(
            f"the scope {scope!r} matches no parameter; choose of the names here, which look like {known}."
        )
    dtypes = {as_real(parameters[key]).dtype for key in chosen}
    devices = {parameters[key].device for key in chosen}
    if len(dtypes) > 1 or len(devices) > 1:
        mixed = ", ".join(sorted(map(str, dtypes | devices)))
        raise ValueError(f"parameters in scope mix {mixed}; bring the backbone to one dtype and device, e.g. .float().")
    return [names[key] for key in chosen], [parameters[key] for key in chosen]


def _refuse_compiled(backbone: nn.Module) -> None:
    for name, module in backbone.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"its part {name!r}" if name else "the backbone"
            raise ValueError(
                f"{what} is scripted or traced, and its parameters lie where Python cannot exchange them; pass the module"
                " that it was made of."
            )


def assign_groups(names: list[list[str]], groups: Mapping[str, Patterns] | None) -> tuple[tuple[str, ...], list[int]]:
    """Names of the groups, and the group of each parameter; see `DPI`."""
    if groups is None:
        return ("all",), [0] * len(names)
    patterns = list(groups.values())
    chosen = [
        next((g for g, pattern in enumerate(patterns) if any(matches(n, pattern) for n in aliases)), len(patterns))
        for aliases in names
    ]
    for g, name in enumerate(groups):
        if g not in chosen:
            raise ValueError(f"the group {name!r} with {patterns[g]!r} holds no parameter; mend or remove it.")
    rest = ("rest",) if len(patterns) in chosen else ()
    return (*groups, *rest), chosen


def segment_of(name: str, parameter: Tensor, group: int) -> Segment:
    """The layout of one parameter; a complex one takes two numbers for each entry."""
    numel = parameter.numel() * (2 if parameter.is_complex() else 1)
    return Segment(name, tuple(parameter.shape), parameter.is_complex(), group, numel)


def slots_of(backbone: nn.Module, parameters: list[nn.Parameter]) -> tuple[Slot, ...]:
    """Every place in the backbone where one of the parameters stands."""
    index = {id(parameter): i for i, parameter in enumerate(parameters)}
    return tuple(
        Slot(module, path, key, index[id(parameter)], type(module).__setattr__ is not nn.Module.__setattr__)
        for path, module in backbone.named_modules()
        for key, parameter in module._parameters.items()
        if id(parameter) in index
    )


class Vacant:
    """Stands where a parameter is while DPI does not run: whatever wants to compute with it, or read it, is told why not."""

    @classmethod
    def __torch_function__(cls, *_: Any) -> Any:
        raise RuntimeError(OUTSIDE)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name if name.startswith("__") else OUTSIDE)


OUTSIDE = (
    "a layer of a DPI network was used outside the network's call, where it has no parameters; call the network itself."
    " Activation checkpointing inside the backbone does that in the backward pass: checkpoint the network's whole call."
)


_VACANT = Vacant()


def put(slot: Slot, value: Any) -> None:
    """Puts a value into a parameter's place; None empties it."""
    module, key = slot.module, slot.key
    module.__dict__.pop(key, None)
    if slot.watched and value is not None:
        del module._parameters[key]
        setattr(module, key, value)
        return
    module._parameters[key] = value
    if slot.watched:
        setattr(module, key, None)
    elif value is None:
        module.__dict__[key] = _VACANT


def as_real(tensor: Tensor) -> Tensor:
    """A complex tensor with its two parts as a last axis; a real one as it is."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
