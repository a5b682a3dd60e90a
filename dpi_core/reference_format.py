"""Weights in the convention of the reference implementation of DPI (arXiv:2511.21028), both ways.

There a layer holds its two sets side by side: `weight` is θ1, the λ = 1 end, and `weight_copy` is θ0, likewise `bias` and
`bias_copy`. The curve is a table φ of S entries, named `theta` or `lambda_table.phi`: λ(s_i) = Σ_{j≤i} softmax(φ)_j with
entry 0 pinned to 0, read at round(t·(S − 1)). That is `SoftmaxSchedule(S, rounding="nearest")`.

Where the file's t is 0 at the clean end it is s. A flow whose t is 0 at the noise end has s = 1 − t: its two sets change places
and its curve is turned round.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.build import Recipe, build_denoiser
from dpi_core.conditioning import ConditioningConfig, ScheduleConfig
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import LambdaSchedule, SoftmaxSchedule
from dpi_core.limits import Limits
from dpi_core.model import Model

COPY = "_copy"
TableName = Literal["theta", "lambda_table.phi"]
TABLES: tuple[TableName, ...] = ("theta", "lambda_table.phi")
SHOWN = 8


@dataclass
class ImportReport:
    """What became of every tensor of a file, and of every parameter of the network.

    Attributes:
        table: the name of λ's table in the file.
        prefix: what stands before the network's names in the file.
        two_sets: parameters that got θ0 and θ1.
        one_set: parameters of which the file has one set.
        misfits: parameters that could not be filled -> why.
        unused: tensors of the file that belong to nothing -> why.
    """

    table: str
    prefix: str = ""
    two_sets: list[str] = field(default_factory=list)
    one_set: list[str] = field(default_factory=list)
    misfits: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the network is the file's, and nothing is left over."""
        return not self.misfits and not self.unused

    def __str__(self) -> str:
        """One line for each kind, and one for each tensor that does not match."""
        under = f", under {self.prefix!r}" if self.prefix else ""
        lines = [
            f"λ: {self.table}",
            f"two sets: {len(self.two_sets)} parameters{under}",
            f"one set in the file, so the same at both ends: {len(self.one_set)}{_listed(self.one_set)}",
            f"not filled: {len(self.misfits)}",
            *(f"  {name}: {why}" for name, why in self.misfits.items()),
            f"of no use: {len(self.unused)}",
            *(f"  {name}: {why}" for name, why in self.unused.items()),
        ]
        return "\n".join(lines)


def import_reference(
    recipe: Recipe, tensors: Mapping[str, Tensor], noise_first: bool = False
) -> tuple[Model, ImportReport]:
    """Puts a state dict in the reference's convention onto the backbone of a recipe.

    Args:
        recipe: names data, process and backbone; its conditioning becomes DPI with the file's table.
        tensors: the state dict.
        noise_first: whether its t is 0 at the noise end.

    Returns:
        The model, filled as far as the file goes, and what matched; see `ImportReport.complete`.

    Raises:
        ValueError: the file has no second set, or no table of λ, or more than one.
    """
    if not any(name.endswith(COPY) for name in tensors):
        raise ValueError(
            f"no tensor ends in {COPY!r}, so there is no second parameter set: these are the weights of a plain network;"
            " load them into the backbone and start from there (train --init)."
        )
    table_name, phi = find_table(tensors)
    recipe = _with_table(recipe, len(phi))
    denoiser = build_denoiser(recipe)
    assert isinstance(denoiser.net, DPI) and isinstance(denoiser.net.schedule, SoftmaxSchedule)
    with torch.no_grad():
        denoiser.net.schedule.phi.copy_(turned_round(phi) if noise_first else phi)
    report = fill(denoiser.net, tensors, ImportReport(table_name))
    if noise_first:
        _exchange_sets(denoiser.net)
    return Model(denoiser.eval(), recipe), report


def export_reference(net: DPI, table: TableName = "theta") -> dict[str, Tensor]:
    """The state dict of a DPI network in the reference's convention; tied parameters stand under all their names.

    Args:
        net: with one learned λ.
        table: what the table of λ is called.

    Raises:
        ValueError: λ is fixed, has a least slope, or there is one for each group of layers: the convention has no place
            for that.
    """
    held = _beyond_the_convention(net.schedule)
    if held:
        raise ValueError(f"λ {held}, but the reference's files hold one learned table; export a network that has one.")
    tensors = {table: net.schedule.phi, **net.backbone.state_dict()}
    for name, own in names_in_scope(net).items():
        tensors |= {name: net.theta1[own], name + COPY: net.theta0[own]}
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def _beyond_the_convention(schedule: LambdaSchedule) -> str:
    """What of a curve the reference's files cannot hold; empty where they can."""
    if not isinstance(schedule, SoftmaxSchedule):
        return "is fixed"
    if schedule.n_groups is not None:
        return "differs between groups of layers"
    return "has a least slope" if schedule.least_slope else ""


def find_table(tensors: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    """The name and the values of λ's table φ, (S,); where layers share one, it stands under several names.

    Raises:
        ValueError: there is none, it is no table, or there are several that differ.
    """
    found = [name for name in tensors if any(f".{name}".endswith(f".{table}") for table in TABLES)]
    if not found:
        raise ValueError(f"there is no table of λ; its name has to end in {' or '.join(TABLES)}.")
    name = found[0]
    phi = tensors[name]
    if phi.numel() != max(phi.shape, default=0) or phi.numel() < 2:
        raise ValueError(
            f"{name} has shape {tuple(phi.shape)}, but a table of λ is a row of at least 2 numbers; import a file that holds"
            " one."
        )
    Limits.from_environment().check("knots", phi.numel(), name)
    if not phi.is_floating_point() or not bool(torch.isfinite(phi).all()):
        raise ValueError(
            f"{name} is of {phi.dtype} or not finite, but a table of λ is made of real numbers; mend the file."
        )
    for other in found[1:]:
        if tensors[other].shape != phi.shape or not torch.equal(tensors[other], phi):
            raise ValueError(f"{name} and {other} differ, but the whole network shares one λ; import one curve.")
    return name, phi.reshape(-1)


def turned_round(phi: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """The φ of 1 − λ(1 − s), float64."""
    schedule = SoftmaxSchedule(len(phi))
    schedule.phi.data = phi.detach().double()
    rises = schedule.table().detach().diff().flip(0)
    # Entry 0 is pinned to 0 whatever φ_0 is, so the first rise is the sum of the first two shares.
    return torch.cat([rises[:1] / 2, rises[:1] / 2, rises[1:]]).clamp(min=1e-300).log()


@torch.no_grad()
def _exchange_sets(net: DPI) -> None:
    for name, end in net.theta1.items():
        start = net.theta0[name].clone()
        net.theta0[name].copy_(end)
        end.copy_(start)


@torch.no_grad()
def fill(net: DPI, tensors: Mapping[str, Tensor], report: ImportReport) -> ImportReport:
    """Copies both sets, what is outside the scope, and buffers into a network; the report says what became of each."""
    in_scope, rest = names_in_scope(net), net.backbone.state_dict()
    report.prefix = common_prefix(tensors, [*in_scope, *rest])
    for name, own in in_scope.items():
        one, zero = tensors.get(report.prefix + name), tensors.get(report.prefix + name + COPY)
        ends = ((one, net.theta1[own]), (one if zero is None else zero, net.theta0[own]))
        _put(name, ends, report.one_set if zero is None else report.two_sets, report)
    for name, target in rest.items():
        _put(name, ((tensors.get(report.prefix + name), target),), report.one_set, report)
    known = {report.prefix + name for name in (*in_scope, *rest)} | {report.prefix + name + COPY for name in in_scope}
    others = (name for name in tensors if name not in known and not _is_table(name))
    report.unused = {name: _why_unused(name, report.prefix, rest) for name in others}
    return report


def _put(name: str, ends: Sequence[tuple[Tensor | None, Tensor]], filled: list[str], report: ImportReport) -> None:
    """Copies each value to its target, all or none, and reports it."""
    reasons = [_misfit(value, target) for value, target in ends]
    reason = next(filter(None, reasons), None)
    if reason is not None:
        report.misfits[name] = reason
        return
    for value, target in ends:
        assert value is not None
        target.copy_(value)
    filled.append(name)


def names_in_scope(net: DPI) -> dict[str, str]:
    """Every name a parameter in scope has in the backbone -> the name it has in `net.theta0`; tied ones have several."""
    sets = net.theta0
    plain = net.materialize(0.0 if net.scalar is None else net.scalar.low)
    own = {id(plain.get_parameter(name)): name for name in sets}
    return {
        name: own[id(parameter)]
        for name, parameter in plain.named_parameters(remove_duplicate=False)
        if id(parameter) in own
    }


def common_prefix(names: Mapping[str, Tensor], wanted: list[str]) -> str:
    """What most of the wanted names have before them in a file: "module." of a wrapped network, or nothing."""
    counts = Counter(prefix for prefix in _prefixes(names, wanted))
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)), default="")


def _prefixes(names: Mapping[str, Tensor], wanted: list[str]) -> Iterator[str]:
    for name in wanted:
        for given in names:
            prefix = given.removesuffix(name)
            if given.endswith(name) and (not prefix or prefix.endswith(".")):
                yield prefix


def _is_table(name: str) -> bool:
    return any(f".{name}".endswith(f".{table}") for table in TABLES)


def _misfit(value: Tensor | None, target: Tensor) -> str | None:
    """Why a tensor cannot take a parameter's place."""
    if value is None:
        return "not in the file"
    if value.shape != target.shape:
        return f"{tuple(value.shape)} in the file, but {tuple(target.shape)} in the network"
    if value.is_floating_point() != target.is_floating_point() or value.is_complex() != target.is_complex():
        return f"{value.dtype} in the file, but {target.dtype} in the network"
    return None


def _why_unused(name: str, prefix: str, rest: Mapping[str, Tensor]) -> str:
    if not name.startswith(prefix):
        return f"not under {prefix!r}"
    if name.removeprefix(prefix).removesuffix(COPY) in rest:
        return "a second set for what has one here: outside the scope, or a buffer"
    return "the network has no such parameter"


def _with_table(recipe: Recipe, n_knots: int) -> Recipe:
    """The recipe with DPI and a table like the reference's; a scope and a physical range are kept."""
    schedule = ScheduleConfig(n_knots=n_knots, rounding="nearest")
    given = recipe.conditioning if recipe.conditioning.kind == "dpi" else ConditioningConfig()
    return dataclasses.replace(recipe, conditioning=dataclasses.replace(given, schedule=schedule, groups=None))


def _listed(names: list[str]) -> str:
    more = "" if len(names) <= SHOWN else ", ..."
    return f" ({', '.join(names[:SHOWN])}{more})" if names else ""
