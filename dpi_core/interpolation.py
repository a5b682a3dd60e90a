"""Deep Parameter Interpolation: any network, two parameter sets, one curve between them (arXiv:2511.21028, eq. 2).

g(θ0, θ1, x, s) = f([1 − λ(s)]·θ0 + λ(s)·θ1, x). The two sets live in two flat buffers, so one `lerp` makes θ(s)
whatever the network is made of. While the backbone runs, views of θ(s) stand where its parameters stood; at rest those
places are empty, so that the network owns 2 P + S numbers and not 3 P.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dpi_core.changes import Snapshot
from dpi_core.flat_storage import (
    Patterns,
    as_real,
    assign_groups,
    blend,
    derivatives_recorded,
    is_unshared,
    parameters_in_scope,
    put,
    segment_of,
    slots_of,
    transforms_active,
)
from dpi_core.lambda_schedules import LambdaSchedule, ScalarRange, SoftmaxSchedule
from dpi_core.linearity import GROUPED_ON, Pass, PerSample, Plan, Unsupported
from dpi_core.sample_batches import (
    Groups,
    batch_size,
    by_value,
    has_hooks,
    in_stretches,
    merge,
    on_trial,
    sample_axis,
    signature,
    take,
)
from dpi_core.types import Scalar, as_scalar


class Materialized(NamedTuple):
    """θ(s) kept for the next call at the same s with the same weights and the same curve."""

    key: tuple[Any, ...]
    curve: Tensor
    made_of: Snapshot
    flat: Tensor
    parameters: list[Tensor]


class DPI(nn.Module):
    """Conditions any network on a scalar by interpolating between two parameter sets.

    Both sets start equal to the backbone's parameters, so a pretrained backbone is a warm start and the network equals
    it at every s until training moves the sets apart. Frozen parameters (`requires_grad=False`) and those outside
    `scope` keep one set. The backbone is taken over: call it through this module, or take a copy by `materialize`.

    An instance is not safe to call from several threads: the backbone's parameters are exchanged while it runs. Without
    gradients the θ(s) of the last call serves the next one at the same s: write into the sets by an optimiser or under
    `torch.no_grad()`, for of writes through `.data` or NumPy those of a few numbers go unnoticed, and on a GPU all.

    Args:
        backbone: the network f; it takes no scalar. Its lazy parameters have to be initialised.
        schedule: λ; the default is `SoftmaxSchedule()`.
        scope: glob patterns over parameter names; those that match get two sets.
        groups: group name -> glob patterns, one λ each, for a schedule with `n_groups`; the first match decides, and what
            matches none forms a last group "rest".
        scalar: maps a physical quantity to s in [0, 1]; without it s itself is expected.
        batch_dim: the axis of the inputs (and of a single output) that counts samples.

    Raises:
        ValueError: no parameter in scope, uninitialised or mixed-precision parameters, a scripted or traced backbone, or
            groups that do not fit the schedule.
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
        names, parameters = parameters_in_scope(backbone, scope)
        self.group_names, group_of = assign_groups(names, groups)
        _check_groups(self.schedule, self.group_names if groups is not None else None)

        order = sorted(range(len(names)), key=lambda i: group_of[i])
        self._segments = tuple(segment_of(names[i][0], parameters[i], group_of[i]) for i in order)
        self._sizes = [segment.numel for segment in self._segments]
        self._slots = slots_of(backbone, [parameters[i] for i in order])
        flat = torch.cat([as_real(parameters[i].detach()).flatten() for i in order])
        self.flat0 = nn.Parameter(flat)
        self.flat1 = nn.Parameter(flat.clone())
        self.backbone = backbone
        self._install(None)
        self._cached: Materialized | None = None
        self._stretches: tuple[int, ...] | None = None
        self._batch_axes: dict[str, list[int | None]] = {}
        self._plans: dict[Any, Plan] = {}
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
        return self._named(self._blend(self._lambdas(self._one_scalar(s)))[0])

    def materialize(self, s: Scalar) -> nn.Module:
        """An independent plain module of the backbone's class with θ(s) inside."""
        plain = copy.deepcopy(self.backbone)
        with torch.no_grad():
            values = self._split(self._blend(self._lambdas(self._one_scalar(s)))[0])
        own = [nn.Parameter(value.clone()) for value in values]
        for slot in self._slots:
            setattr(plain.get_submodule(slot.path), slot.key, own[slot.segment])
        return plain

    @contextmanager
    def using(self, schedule: LambdaSchedule) -> Iterator[None]:
        """Another λ for a while: frozen, linear, reversed, any table; one curve serves all groups.

        Args:
            schedule: the curve to use inside the `with` block, or one curve for each group.

        Raises:
            ValueError: there are neither one curve nor as many as groups.
        """
        if schedule.n_groups is not None:
            _check_groups(schedule, self.group_names)
        learned = self.schedule
        self.schedule = schedule
        try:
            yield
        finally:
            self.schedule = learned

    @contextmanager
    def in_stretches(self, lengths: Sequence[int]) -> Iterator[None]:
        """States that equal scalars stand together, so that a vector s on a device is not read back to find them.

        Args:
            lengths: of the stretches of samples with one scalar each, in every call inside the `with` block.
        """
        before, self._stretches = self._stretches, tuple(lengths)
        try:
            yield
        finally:
            self._stretches = before

    @torch.no_grad()
    def separate(self, noise: float, generator: torch.Generator) -> None:
        """Moves θ0 and θ1 apart by independent Gaussian noise.

        While both sets are equal, dL/dλ = <dL/dθ, θ1 − θ0> is zero and λ cannot learn.

        Args:
            noise: standard deviation of the move, relative to each parameter's root mean square.
            generator: where the noise is drawn from, on the CPU.
        """
        for flat in (self.flat0, self.flat1):
            for stretch in flat.split(self._sizes):
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
        batch = batch_size(x, self.batch_dim)
        unit = self._unit(s, batch)
        if unit.ndim == 0:
            return self._run(unit, x, args, kwargs)
        groups = self._groups(unit)
        if len(groups.values) <= 1:
            return self._run(groups.values[0] if len(unit) else unit.new_zeros(()), x, args, kwargs)
        if self._one_pass_pays(groups, len(unit), (x, args, kwargs)):
            with suppress(Unsupported):  # a branch that its trial did not take
                return self._run_at_once(unit, groups, (x, args, kwargs))
        return self._run_groups(groups, x, args, kwargs)

    def _groups(self, unit: Float[Tensor, " b"]) -> Groups:
        if unit.requires_grad:  # every sample asks for a derivative of its own
            return in_stretches(unit, [1] * len(unit))
        return by_value(unit) if self._stretches is None else in_stretches(unit, self._stretches)

    def _run(self, s: Tensor, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._installed(next(self._parameter_sets(s.reshape(1)))):
            return self.backbone(x, *args, **kwargs)

    def _run_at_once(self, unit: Float[Tensor, " b"], groups: Groups, inputs: tuple[Any, ...]) -> Any:
        """One pass for all samples; where operators may be grouped, in an order in which their scalars take turns."""
        batch, scalars = len(unit), len(groups.values)
        if scalars == batch or not groups.equal or self.flat0.device.type != GROUPED_ON:
            return self._run_per_sample(unit, inputs, Pass(batch, batch))
        order = groups.turns()
        output = self._run_per_sample(unit[order], take(inputs, order, 0, batch), Pass(batch, scalars))
        return take(output, torch.argsort(order), 0, batch)

    def _run_per_sample(self, values: Float[Tensor, " b"], inputs: tuple[Any, ...], run: Pass) -> Any:
        """One pass in which every operator meets both sets, see `linearity`."""
        x, args, kwargs = inputs
        columns = self._lambdas(values).expand(-1, len(self.group_names)).unbind(1)
        sets = zip(self._segments, self._split(self.flat0), self._split(self.flat1), strict=True)
        with self._installed([PerSample(start, end, columns[part.group], run) for part, start, end in sets]):
            return self.backbone(x, *args, **kwargs)

    def _one_pass_pays(self, groups: Groups, batch: int, inputs: tuple[Any, ...]) -> bool:
        """Whether one pass for all samples is possible and cheaper than one for each group."""
        if self.batch_dim != 0 or has_hooks(self.backbone):
            return False
        key = signature(inputs, batch)
        if key not in self._plans:
            self._plans[key] = self._plan(batch, inputs)
        scalars, trains = len(groups.values), self._learns(torch.empty(0))
        weights = scalars if groups.equal else batch
        return self._plans[key].pays(scalars, weights, batch, self.flat0.numel(), trains, self.flat0.device.type)

    def _plan(self, batch: int, inputs: tuple[Any, ...]) -> Plan:
        """Tries one pass on two and on three samples: where those count is the only axis that grows."""
        if any(slot.watched for slot in self._slots) or any(segment.is_complex for segment in self._segments):
            return Plan(0)
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.backbone.modules()):
            return Plan(0)
        few = min(2, batch - 1)
        runs, outputs = (Pass(few, few), Pass(few + 1, few + 1)), []
        accelerators = [self.flat0.device] if self.flat0.device.type == "cuda" else []
        try:
            with on_trial(self.backbone), torch.random.fork_rng(accelerators):
                for run in runs:
                    part = take(inputs, slice(0, run.batch), 0, batch)
                    outputs.append(pytree.tree_leaves(self._run_per_sample(torch.zeros(run.batch), part, run)))
        except (Unsupported, Exception):  # whatever it is, grouping meets it again if it is the network's own
            return Plan(0)
        grows = all(a[1:] == b[1:] for a, b in zip(runs[0].shapes, runs[1].shapes, strict=True))
        counted = all(
            isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == run.batch
            for leaves, run in zip(outputs, runs, strict=True)
            for leaf in leaves
        )
        return Plan(len(runs[0].shapes), tuple(runs[0].operators)) if grows and counted else Plan(0)

    def _run_groups(self, groups: Groups, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One pass per distinct scalar over the samples that share it, put back in the order of the batch."""
        self._warn_of_batch_statistics()
        batch = sum(map(groups.size, range(len(groups.rows))))
        outputs = []
        for parameters, rows in zip(self._parameter_sets(groups.values), groups.rows, strict=True):
            part_x, part_args, part_kwargs = take((x, args, kwargs), rows, self.batch_dim, batch)
            with self._installed(parameters):
                outputs.append(self.backbone(part_x, *part_args, **part_kwargs))
        leaves, spec = pytree.tree_flatten(outputs[0])
        if len(leaves) == 1 and batch_size(leaves[0], self.batch_dim) == groups.size(0):
            axes: list[int | None] = [self.batch_dim]
        else:
            axes = self._output_axes(leaves, str(spec), groups.size(0), batch, groups.values[0], (x, args, kwargs))
        columns = zip(*(pytree.tree_leaves(output) for output in outputs), strict=True)
        merged = [merge(parts, axis, groups.back) for parts, axis in zip(columns, axes, strict=True)]
        return pytree.tree_unflatten(merged, spec)

    def _output_axes(
        self, leaves: list[Any], structure: str, part: int, batch: int, s: Tensor, inputs: tuple[Any, ...]
    ) -> list[int | None]:
        """The axis of each output that counts samples: the one that grows from `part` to `batch` with the inputs."""
        if structure not in self._batch_axes:
            with on_trial(self.backbone):
                whole = pytree.tree_leaves(self._run(s, *inputs))
            self._batch_axes[structure] = [sample_axis(a, b, part, batch) for a, b in zip(leaves, whole, strict=True)]
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

    def _blend(self, lam: Float[Tensor, "n g"], room: Tensor | None = None) -> tuple[Tensor, ...]:
        """θ at n positions, n flat buffers; differentiable. `room` is memory for the first."""
        sizes = [0] * len(self.group_names)
        for segment in self._segments:
            sizes[segment.group] += segment.numel
        rooms = [] if room is None else [room]
        return blend(self.flat0, self.flat1, lam.expand(-1, len(sizes)), sizes, rooms)

    def _lambdas(self, values: Float[Tensor, " n"]) -> Float[Tensor, "n g"]:
        """λ at n scalars, one column for all groups or one for each, where the parameters are."""
        looked_up = values.device.type == "cpu" and not self.flat0.is_meta and not derivatives_recorded()
        return self._beside(self.schedule.lookup(values) if looked_up else self.schedule(values), len(values))

    def _beside(self, lam: Tensor, n: int) -> Float[Tensor, "n g"]:
        """λ at n scalars where the parameters are, in their dtype."""
        return lam.to(device=self.flat0.device, dtype=self.flat0.dtype).reshape(n, -1)

    def _parameter_sets(self, values: Float[Tensor, " n"]) -> Iterator[list[Tensor]]:
        """The parameters at each scalar; made together where a gradient is asked for, one after another where not."""
        if self._learns(values) or transforms_active():
            yield from map(self._split, self._blend(self._lambdas(values)))
        else:
            yield from map(self._constant_parameters, values)

    def _learns(self, values: Tensor) -> bool:
        """Whether a gradient with respect to s, λ or a parameter set is asked for."""
        if not torch.is_grad_enabled():
            return False
        return values.requires_grad or any(
            p.requires_grad for p in (self.flat0, self.flat1, *self.schedule.parameters())
        )

    def _constant_parameters(self, s: Tensor) -> list[Tensor]:
        """The parameters at one scalar, without a gradient; reused while s and the weights stay."""
        sets = (self.flat0, self.flat1)
        if s.device.type != "cpu" or self.flat0.is_meta or any(flat.is_inference() for flat in sets):
            return self._split(self._blend(self._lambdas(s.reshape(1)))[0])
        key = (s.item(), self.schedule.rounding, torch.is_inference_mode_enabled())
        cached, curve = self._cached, self.schedule.known()
        if cached is None or cached.key != key or cached.curve is not curve or not cached.made_of.shows(sets):
            with torch.no_grad():
                lam = self._beside(self.schedule.lookup(s, curve), 1)
                flat = self._blend(lam, self._room())[0]
                self._cached = cached = Materialized(key, curve, Snapshot(sets), flat, self._split(flat))
        return cached.parameters

    def _room(self) -> Tensor | None:
        """The memory of the last θ(s), if nobody holds a part of it: taking new memory costs more than the blend."""
        if self._cached is None:
            return None
        flat = self._cached.flat
        self._cached.parameters.clear()
        self._cached = None
        fits = flat.shape == self.flat0.shape and flat.dtype == self.flat0.dtype and flat.device == self.flat0.device
        return flat if fits and flat.is_inference() == torch.is_inference_mode_enabled() and is_unshared(flat) else None

    def _split(self, flat: Tensor) -> list[Tensor]:
        stretches = torch.split_with_sizes(flat, self._sizes)
        return [segment.view(stretch) for segment, stretch in zip(self._segments, stretches, strict=True)]

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        return {segment.name: view for segment, view in zip(self._segments, self._split(flat), strict=True)}

    @contextmanager
    def _installed(self, parameters: Sequence[Tensor | PerSample]) -> Iterator[None]:
        self._install(parameters)
        try:
            yield
        finally:
            self._install(None)

    def _install(self, parameters: Sequence[Tensor | PerSample] | None) -> None:
        """Puts parameters into their places in the backbone, or empties those places."""
        for slot in self._slots:
            put(slot, None if parameters is None else parameters[slot.segment])

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
        assigns, faults = bool(local_metadata.get("assign_to_params_buffers")), len(missing_keys) + len(error_msgs)
        expected: dict[str, Tensor] = {}
        for set_name, values in (("theta0", self.theta0), ("theta1", self.theta1)):
            expected |= {f"{prefix}{set_name}.{name}": value for name, value in values.items()}
        for key, value in expected.items():
            if key not in state_dict:
                missing_keys.append(key)
            elif state_dict[key].shape != value.shape:
                error_msgs.append(f"{key} has shape {tuple(state_dict[key].shape)}, expected {tuple(value.shape)}.")
            elif not assigns:
                value.copy_(state_dict[key])
        if assigns and len(missing_keys) + len(error_msgs) == faults:
            self.flat0, self.flat1 = (
                self._assigned(flat, [state_dict[f"{prefix}{name}.{segment.name}"] for segment in self._segments])
                for name, flat in (("theta0", self.flat0), ("theta1", self.flat1))
            )
        children = tuple(f"{prefix}{child}." for child in self._modules)
        ours = (key for key in state_dict if key.startswith(prefix) and not key.startswith(children))
        unexpected_keys.extend(key for key in ours if key not in expected)

    @staticmethod
    def _assigned(flat: nn.Parameter, values: Sequence[Tensor]) -> nn.Parameter:
        """A set made of what is given, wherever the former one lay, as on no device at all."""
        return nn.Parameter(torch.cat([as_real(value).flatten() for value in values]), flat.requires_grad)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cached": None}

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"{len(self._segments)} parameters in scope, 2 × {self.flat0.numel():,} numbers, scope={self.scope!r}"


def _check_groups(schedule: LambdaSchedule, group_names: tuple[str, ...] | None) -> None:
    wanted = None if group_names is None else len(group_names)
    if schedule.n_groups != wanted:
        named = "no groups are given" if group_names is None else f"the groups are {', '.join(group_names)}"
        raise ValueError(f"the schedule has n_groups={schedule.n_groups}, but {named}; pass n_groups={wanted}.")
