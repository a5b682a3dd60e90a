"""Deep Parameter Interpolation: any network, two parameter sets, one curve between them (arXiv:2511.21028, eq. 2).

g(θ0, θ1, x, s) = f([1 − λ(s)]·θ0 + λ(s)·θ1, x). The two sets live in two flat buffers, so one `lerp` makes θ(s)
whatever the network is made of. While the backbone runs, views of θ(s) stand where its parameters stood; at rest those
places are empty, so that the network owns 2 P + S numbers and not 3 P.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dpi_core.lambda_schedules import LambdaSchedule, ScalarRange, SoftmaxSchedule
from dpi_core.types import Scalar, as_scalar

Patterns = str | Sequence[str]
PLAIN = (int, float, str, type(None))
"""Output values that are taken over as they are if they are the same for every scalar."""


@dataclass(frozen=True)
class Segment:
    """One backbone parameter's place in the flat buffers."""

    name: str
    shape: torch.Size
    is_complex: bool
    group: int
    numel: int

    def view(self, flat: Tensor) -> Tensor:
        """The parameter, seen in its own 1-D stretch of a flat buffer."""
        if self.is_complex:
            return torch.view_as_complex(flat.view(*self.shape, 2))
        return flat.view(self.shape)


class Materialized(NamedTuple):
    """θ(s) kept for the next call at the same s with the same weights."""

    key: tuple[Any, ...]
    sources: tuple[Any, ...]
    parameters: list[Tensor]


class Slot(NamedTuple):
    """A place in the backbone where a parameter stands; tied parameters have several."""

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
    def forward(theta0: Tensor, theta1: Tensor, lam: Float[Tensor, "n g"], sizes: list[int]) -> tuple[Tensor, ...]:
        """N flat buffers; `sizes` are the lengths of the groups' stretches."""
        starts, ends = theta0.split(sizes), theta1.split(sizes)
        blends = []
        for row in lam:
            blend = torch.empty_like(theta0)
            for start, end, weight, out in zip(starts, ends, row, blend.split(sizes), strict=True):
                torch.lerp(start, end, weight, out=out)
            blends.append(blend)
        return tuple(blends)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keeps the inputs; gradients of unused outputs stay None."""
        theta0, theta1, lam, ctx.sizes = inputs
        ctx.save_for_backward(theta0, theta1, lam)
        ctx.save_for_forward(theta0, theta1, lam)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """One pass over the gradients of the blends."""
        theta0, theta1, lam = ctx.saved_tensors
        grad0, grad1 = torch.zeros_like(theta0), torch.zeros_like(theta1)
        grad_lam = torch.zeros_like(lam)
        apart = theta1 - theta0 if ctx.needs_input_grad[2] else None
        for i, grad in enumerate(grads):
            if grad is None:
                continue
            stretches = zip(*(_stretches(flat, ctx.sizes) for flat in (grad, grad0, grad1)), strict=True)
            for j, (piece, piece0, piece1) in enumerate(stretches):
                piece0.addcmul_(piece, 1 - lam[i, j])
                piece1.addcmul_(piece, lam[i, j])
            if apart is not None:
                dots = [torch.dot(a, b) for a, b in zip(grad.split(ctx.sizes), apart.split(ctx.sizes), strict=True)]
                grad_lam[i] = torch.stack(dots)
        return grad0, grad1, grad_lam, None

    @staticmethod
    def jvp(ctx: Any, d_theta0: Tensor | None, d_theta1: Tensor | None, d_lam: Tensor | None, _: None) -> Any:
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


def _stretches(flat: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """The groups' stretches, one after another."""
    # Not `split`: its views may not be written to while a second derivative is recorded.
    start = 0
    for size in sizes:
        yield flat.narrow(0, start, size)
        start += size


class DPI(nn.Module):
    """Conditions any network on a scalar by interpolating between two parameter sets.

    Both sets start equal to the backbone's parameters, so a pretrained backbone is a warm start and the network equals
    it at every s until training moves the sets apart. Frozen parameters (`requires_grad=False`) and those outside
    `scope` keep one set. The backbone is taken over: call it through this module, or take a copy by `materialize`.

    An instance is not safe to call from several threads: the backbone's parameters are exchanged while it runs.

    Args:
        backbone: the network f; it takes no scalar. Its lazy parameters have to be initialised.
        schedule: λ; the default is `SoftmaxSchedule()`.
        scope: glob patterns over parameter names; those that match get two sets.
        groups: group name -> glob patterns, one λ each, for a schedule with `n_groups`; the first match decides, and what
            matches none forms a last group "rest".
        scalar: maps a physical quantity to s in [0, 1]; without it s itself is expected.
        batch_dim: the axis of the inputs (and of a single output) that counts samples.

    Raises:
        ValueError: no parameter in scope, uninitialised or mixed-precision parameters, or groups that do not fit the schedule.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: LambdaSchedule | None = None,
        scope: Patterns = "*",
        *,
        groups: Mapping[str, Patterns] | None = None,
        scalar: ScalarRange | None = None,
        batch_dim: int = 0,
    ) -> None:
        super().__init__()
        self.schedule = schedule if schedule is not None else SoftmaxSchedule()
        self.scope, self.scalar, self.batch_dim = scope, scalar, batch_dim
        names, parameters = _parameters_in_scope(backbone, scope)
        self.group_names, group_of = _assign_groups(names, groups)
        _check_groups(self.schedule, self.group_names if groups is not None else None)

        order = sorted(range(len(names)), key=lambda i: group_of[i])
        self._segments = tuple(_segment(names[i][0], parameters[i], group_of[i]) for i in order)
        self._slots = _slots(backbone, [parameters[i] for i in order])
        flat = torch.cat([_as_real(parameters[i].detach()).flatten() for i in order])
        self.flat0 = nn.Parameter(flat)
        self.flat1 = nn.Parameter(flat.clone())
        self.backbone = backbone
        self._install(None)
        self._cached: Materialized | None = None
        self._batch_axes: dict[str, list[int | None]] = {}
        self._warned_batch_statistics = False

    # What the network is made of ---------------------------------------------------------------------------------

    @property
    def theta0(self) -> dict[str, Tensor]:
        """θ0: backbone parameter name -> tensor, in scope; views of the stored set."""
        return self._named(self.flat0)

    @property
    def theta1(self) -> dict[str, Tensor]:
        """θ1: backbone parameter name -> tensor, in scope; views of the stored set."""
        return self._named(self.flat1)

    def lam(self, s: Scalar) -> Float[Tensor, ...]:
        """λ(s), shape (...) or (..., g) with groups; differentiable in the schedule's parameters.

        Args:
            s: the scalar, of any shape; in [0, 1], or in the units of `scalar`.
        """
        if self.scalar is None:
            return self.schedule(s)
        value = s if isinstance(s, Tensor) else torch.tensor(float(s), dtype=torch.float64)
        return self.schedule(self.scalar.to_unit(value.reshape(-1)).reshape(value.shape))

    def effective_parameters(self, s: Scalar) -> dict[str, Tensor]:
        """θ(s): backbone parameter name -> tensor, in scope, for one scalar; differentiable."""
        return self._named(self._blend(self._one_scalar(s))[0])

    def materialize(self, s: Scalar) -> nn.Module:
        """An independent plain module of the backbone's class with θ(s) inside."""
        plain = copy.deepcopy(self.backbone)
        with torch.no_grad():
            values = self._split(self._blend(self._one_scalar(s))[0])
        own = [nn.Parameter(value.clone()) for value in values]
        for slot in self._slots:
            setattr(plain.get_submodule(slot.path), slot.key, own[slot.segment])
        return plain

    @contextmanager
    def using(self, schedule: LambdaSchedule) -> Iterator[None]:
        """Another λ for a while: frozen, linear, reversed, any table; one curve serves all groups.

        Args:
            schedule: the curve to use inside the `with` block.
        """
        learned = self.schedule
        self.schedule = schedule
        try:
            yield
        finally:
            self.schedule = learned

    @torch.no_grad()
    def separate(self, noise: float, generator: torch.Generator) -> None:
        """Moves θ0 and θ1 apart by independent Gaussian noise.

        While both sets are equal, dL/dλ = <dL/dθ, θ1 − θ0> is zero and λ cannot learn.

        Args:
            noise: standard deviation of the move, relative to each parameter's root mean square.
            generator: where the noise is drawn from, on the CPU.
        """
        for flat in (self.flat0, self.flat1):
            for stretch in flat.split([segment.numel for segment in self._segments]):
                draw = torch.randn(stretch.shape, generator=generator).to(stretch)
                stretch.add_(draw * (noise * stretch.square().mean().sqrt()))

    # Running it --------------------------------------------------------------------------------------------------

    def forward(self, x: Any, s: Scalar, *args: Any, **kwargs: Any) -> Any:
        """f(θ(s), x, ...), sample by sample where `s` is a vector.

        Args:
            x: the backbone's first input, samples along `batch_dim`.
            s: a float, a 0-d tensor, or one value per sample of shape (b,). With several values, every tensor among
                the inputs that has b entries along `batch_dim` is divided by samples; exact for modules that treat
                samples independently.
            *args: passed on.
            **kwargs: passed on.

        Returns:
            What the backbone returns: a tensor, or tuples and dicts of tensors.

        Raises:
            ValueError: s outside its range, NaN, or of a shape that is neither () nor (b,).
        """
        batch = _batch_size(x, self.batch_dim)
        unit = self._unit(s, batch)
        if unit.ndim == 0:
            return self._run(unit, x, args, kwargs)
        if unit.requires_grad:  # every sample asks for a derivative of its own
            values, which = unit, torch.arange(len(unit), device=unit.device)
        else:
            values, which = torch.unique(unit, return_inverse=True)
        if len(values) <= 1:
            return self._run(values[0] if len(values) else values.new_zeros(()), x, args, kwargs)
        return self._run_groups(values, which, x, args, kwargs)

    def _run(self, s: Tensor, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._installed(next(self._parameter_sets(s.reshape(1)))):
            return self.backbone(x, *args, **kwargs)

    def _run_groups(self, values: Tensor, which: Tensor, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One pass per distinct scalar over the samples that share it, put back in the order of the batch."""
        self._warn_of_batch_statistics()
        order = torch.argsort(which, stable=True)
        rows = order.split(torch.bincount(which, minlength=len(values)).tolist())
        batch = len(which)
        outputs = []
        for parameters, part in zip(self._parameter_sets(values), rows, strict=True):
            part_x, part_args, part_kwargs = self._take((x, args, kwargs), part, batch)
            with self._installed(parameters):
                outputs.append(self.backbone(part_x, *part_args, **part_kwargs))
        leaves, spec = pytree.tree_flatten(outputs[0])
        if len(leaves) == 1 and _batch_size(leaves[0], self.batch_dim) == len(rows[0]):
            axes: list[int | None] = [self.batch_dim]
        else:
            axes = self._output_axes(leaves, str(spec), len(rows[0]), batch, values[0], (x, args, kwargs))
        columns = zip(*(pytree.tree_leaves(output) for output in outputs), strict=True)
        back = torch.argsort(order)
        merged = [_merge(parts, axis, back) for parts, axis in zip(columns, axes, strict=True)]
        return pytree.tree_unflatten(merged, spec)

    def _take(self, inputs: Any, rows: Tensor, batch: int) -> Any:
        def take(leaf: Any) -> Any:
            axis = self.batch_dim
            if not isinstance(leaf, Tensor) or leaf.ndim <= axis or leaf.shape[axis] != batch:
                return leaf
            return leaf.index_select(axis, rows.to(leaf.device))

        return pytree.tree_map(take, inputs)

    def _output_axes(
        self, leaves: list[Any], structure: str, part: int, batch: int, s: Tensor, inputs: tuple[Any, ...]
    ) -> list[int | None]:
        """The axis of each output that counts samples: the one that grows from `part` to `batch` with the inputs."""
        if structure not in self._batch_axes:
            with _evaluating(self.backbone), torch.no_grad():
                whole = pytree.tree_leaves(self._run(s, *inputs))
            self._batch_axes[structure] = [_sample_axis(a, b, part, batch) for a, b in zip(leaves, whole, strict=True)]
        return self._batch_axes[structure]

    def _warn_of_batch_statistics(self) -> None:
        normalises = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.backbone.modules())
        if self.training and normalises and not self._warned_batch_statistics:
            self._warned_batch_statistics = True
            warnings.warn(
                "The backbone takes batch statistics while training, and this batch holds several scalars: statistics are"
                " taken per scalar, running averages mix them. Use group or layer normalisation, or one scalar per batch.",
                stacklevel=4,
            )

    # θ(s) --------------------------------------------------------------------------------------------------------

    def _unit(self, s: Scalar, batch: int | None = None) -> Tensor:
        if self.scalar is None:
            return as_scalar(s, batch)
        return self.scalar.to_unit(as_scalar(s, batch, self.scalar.low, self.scalar.high))

    def _one_scalar(self, s: Scalar) -> Float[Tensor, " 1"]:
        unit = self._unit(s)
        if unit.numel() != 1:
            raise ValueError(
                f"s has shape {tuple(unit.shape)}, but one parameter set belongs to one scalar; pass a float."
            )
        return unit.reshape(1)

    def _blend(self, values: Float[Tensor, " n"]) -> tuple[Tensor, ...]:
        """θ(s) for n scalars, n flat buffers; differentiable."""
        lam = self.schedule(values).to(device=self.flat0.device, dtype=self.flat0.dtype)
        sizes = [0] * len(self.group_names)
        for segment in self._segments:
            sizes[segment.group] += segment.numel
        return Blend.apply(self.flat0, self.flat1, lam.reshape(len(values), -1).expand(-1, len(sizes)), sizes)

    def _parameter_sets(self, values: Float[Tensor, " n"]) -> Iterator[list[Tensor]]:
        """The parameters at each scalar; made together where a gradient is asked for, one after another where not."""
        learns = values.requires_grad or any(
            p.requires_grad for p in (self.flat0, self.flat1, *self.schedule.parameters())
        )
        if torch.is_grad_enabled() and learns:
            yield from map(self._split, self._blend(values))
        else:
            yield from map(self._constant_parameters, values)

    def _constant_parameters(self, s: Tensor) -> list[Tensor]:
        """The parameters at one scalar, without a gradient; reused while s and the weights stay."""
        tensors = (self.flat0, self.flat1, *self.schedule.parameters(), *self.schedule.buffers())
        if s.device.type != "cpu" or any(tensor.is_inference() for tensor in tensors):
            return self._split(self._blend(s.reshape(1))[0])
        sources = (self.schedule, *tensors)
        modes = (torch.is_inference_mode_enabled(), self.schedule.rounding)
        key = (s.item(), *modes, *((t._version, t.data_ptr(), t.dtype) for t in tensors))
        cached = self._cached
        # The cache holds its sources, so that a freed tensor's address cannot come back under another name.
        if (
            cached is None
            or cached.key != key
            or any(a is not b for a, b in zip(cached.sources, sources, strict=False))
        ):
            with torch.no_grad():
                self._cached = cached = Materialized(key, sources, self._split(self._blend(s.reshape(1))[0]))
        return cached.parameters

    def _split(self, flat: Tensor) -> list[Tensor]:
        stretches = flat.split([segment.numel for segment in self._segments])
        return [segment.view(stretch) for segment, stretch in zip(self._segments, stretches, strict=True)]

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        return {segment.name: view for segment, view in zip(self._segments, self._split(flat), strict=True)}

    @contextmanager
    def _installed(self, parameters: list[Tensor]) -> Iterator[None]:
        self._install(parameters)
        try:
            yield
        finally:
            self._install(None)

    def _install(self, parameters: list[Tensor] | None) -> None:
        """Puts parameters into their places in the backbone, or empties those places."""
        for slot in self._slots:
            value = None if parameters is None else parameters[slot.segment]
            if slot.watched:
                _set_watched(slot.module, slot.key, value)
            else:
                slot.module._parameters[slot.key] = value  # type: ignore[assignment]

    # Storing it --------------------------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for set_name, flat in (("theta0", self.flat0), ("theta1", self.flat1)):
            for name, value in self._named(flat if keep_vars else flat.detach()).items():
                destination[f"{prefix}{set_name}.{name}"] = value

    @torch.no_grad()
    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        expected: dict[str, Tensor] = {}
        for set_name, values in (("theta0", self.theta0), ("theta1", self.theta1)):
            expected |= {f"{prefix}{set_name}.{name}": value for name, value in values.items()}
        for key, value in expected.items():
            if key not in state_dict:
                missing_keys.append(key)
            elif state_dict[key].shape != value.shape:
                error_msgs.append(f"{key} has shape {tuple(state_dict[key].shape)}, expected {tuple(value.shape)}.")
            else:
                value.copy_(state_dict[key])
        children = tuple(f"{prefix}{child}." for child in self._modules)
        ours = (key for key in state_dict if key.startswith(prefix) and not key.startswith(children))
        unexpected_keys.extend(key for key in ours if key not in expected)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cached": None}

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"{len(self._segments)} parameters in scope, 2 × {self.flat0.numel():,} numbers, scope={self.scope!r}"


# Building the layout ---------------------------------------------------------------------------------------------


def matches(name: str, patterns: Patterns) -> bool:
    """Whether a parameter's name matches one of the glob patterns."""
    return any(fnmatchcase(name, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))


def _parameters_in_scope(backbone: nn.Module, scope: Patterns) -> tuple[list[list[str]], list[nn.Parameter]]:
    """Trainable parameters that match the scope, each with all its names (tied ones have several)."""
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
        raise ValueError(f"the scope {scope!r} matches no parameter; names here look like {known}.")
    dtypes = {_as_real(parameters[key]).dtype for key in chosen}
    devices = {parameters[key].device for key in chosen}
    if len(dtypes) > 1 or len(devices) > 1:
        mixed = ", ".join(sorted(map(str, dtypes | devices)))
        raise ValueError(f"parameters in scope mix {mixed}; bring the backbone to one dtype and device, e.g. .float().")
    return [names[key] for key in chosen], [parameters[key] for key in chosen]


def _assign_groups(names: list[list[str]], groups: Mapping[str, Patterns] | None) -> tuple[tuple[str, ...], list[int]]:
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


def _check_groups(schedule: LambdaSchedule, group_names: tuple[str, ...] | None) -> None:
    wanted = None if group_names is None else len(group_names)
    if schedule.n_groups != wanted:
        named = "no groups are given" if group_names is None else f"the groups are {', '.join(group_names)}"
        raise ValueError(f"the schedule has n_groups={schedule.n_groups}, but {named}; pass n_groups={wanted}.")


def _segment(name: str, parameter: Tensor, group: int) -> Segment:
    numel = parameter.numel() * (2 if parameter.is_complex() else 1)
    return Segment(name, parameter.shape, parameter.is_complex(), group, numel)


def _slots(backbone: nn.Module, parameters: list[nn.Parameter]) -> tuple[Slot, ...]:
    index = {id(parameter): i for i, parameter in enumerate(parameters)}
    return tuple(
        Slot(module, path, key, index[id(parameter)], type(module).__setattr__ is not nn.Module.__setattr__)
        for path, module in backbone.named_modules()
        for key, parameter in module._parameters.items()
        if id(parameter) in index
    )


def _set_watched(module: nn.Module, key: str, value: Tensor | None) -> None:
    """Sets a parameter of a module that overrides `__setattr__`: recurrent ones keep a list of their weights beside."""
    if value is None:
        module.__dict__.pop(key, None)
        module._parameters[key] = None
        setattr(module, key, None)
    else:
        del module._parameters[key]
        setattr(module, key, value)


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


# Batches ---------------------------------------------------------------------------------------------------------


def _batch_size(x: Any, batch_dim: int) -> int | None:
    for leaf in pytree.tree_leaves(x):
        if isinstance(leaf, Tensor) and leaf.ndim > batch_dim:
            return leaf.shape[batch_dim]
    return None


def _sample_axis(some: Any, whole: Any, part: int, batch: int) -> int | None:
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


def _merge(parts: tuple[Any, ...], axis: int | None, back: Tensor) -> Any:
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
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training
