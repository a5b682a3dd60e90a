"""A DPI network with one λ for each layer: what pinning and attribution move.

A layer is a module that owns parameters in scope; it is named by its path in the backbone. Parameters of one layer may
belong to several groups with a λ each, so positions are kept per parameter: "a layer at λ" is all of them there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from dpi_core.analysis.weights import layer_of, stage_of, two_sets
from dpi_core.flat_storage import Blend, Slot, as_real
from dpi_core.interpolation import DPI
from dpi_core.sample_batches import evaluating
from dpi_core.types import Scalar


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters.

    Attributes:
        name: module path in the backbone; "." for the backbone itself.
        kind: class of the module.
        stage: the part of the path that names a stage.
        parameters: their names in the backbone.
        numel: real numbers in one set of them.
    """

    name: str
    kind: str
    stage: str
    parameters: tuple[str, ...]
    numel: int


def backbone_of(net: nn.Module) -> nn.Module:
    """The network that a conditioning wraps, or the network itself."""
    inner = getattr(net, "backbone", net)
    assert isinstance(inner, nn.Module)
    return inner


def layers_of(net: nn.Module) -> tuple[Layer, ...]:
    """The layers of a conditioned network, in the order of its modules.

    Args:
        net: of a DPI network, those with parameters in scope; of another, all with trainable parameters.
    """
    backbone = backbone_of(net)
    if isinstance(net, DPI):
        sizes = {segment.name: segment.numel for segment in net._segments}
    else:
        sizes = {name: value.numel() for name, value in backbone.named_parameters() if value.requires_grad}
    owned: dict[str, list[str]] = {}
    for name in sizes:
        owned.setdefault(layer_of(name), []).append(name)
    modules = {path or ".": module for path, module in backbone.named_modules()}
    return tuple(
        Layer(path, type(module).__name__, stage_of(path), tuple(owned[path]), sum(sizes[name] for name in owned[path]))
        for path, module in modules.items()
        if path in owned
    )


def layer_index(layers: Sequence[Layer], name: str) -> int:
    """Where a layer stands.

    Raises:
        ValueError: there is no such layer.
    """
    for index, layer in enumerate(layers):
        if layer.name == name:
            return index
    known = ", ".join(layer.name for layer in layers[:6])
    raise ValueError(f"there is no layer {name!r}; layers here are named like {known}.")


def layer_weights(net: nn.Module, layer: Layer) -> dict[str, tuple[Tensor, Tensor]]:
    """A layer's parameters at both ends, by their names within the layer, on the CPU; twice the same with one set.

    Raises:
        ValueError: a value is not finite.
    """
    parameters = dict(backbone_of(net).named_parameters())
    theta0, theta1 = (net.theta0, net.theta1) if isinstance(net, DPI) else (parameters, parameters)
    found = {
        name.rpartition(".")[2]: (as_real(theta0[name].detach()).cpu(), as_real(theta1[name].detach()).cpu())
        for name in layer.parameters
    }
    for name, ends in found.items():
        if not all(bool(torch.isfinite(end).all()) for end in ends):
            raise ValueError(
                f"the weight {name!r} of {layer.name} holds NaN or infinity; load a checkpoint from before training"
                " diverged."
            )
    return found


class ByLayer(nn.Module):
    """A DPI network whose parameters stand where they are put, whatever s is; under the contract `net(x, s)`.

    It runs in evaluation mode.

    Args:
        net: with two parameter sets.

    Attributes:
        layers: of the network; m of them.
        lam: (p,) where each of its p parameters stands; see `learned`, `together` and `hold`.

    Raises:
        ValueError: the network has one parameter set.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = two_sets(net)
        self.layers = layers_of(net)
        places = {name: index for index, layer in enumerate(self.layers) for name in layer.parameters}
        self._sizes = [segment.numel for segment in self.net._segments]
        self._layer = torch.tensor([places[segment.name] for segment in self.net._segments])
        self._group = torch.tensor([segment.group for segment in self.net._segments])
        self._memory: _Memory | None = None
        self._moving: Tensor | None = None
        self.lam = self.together(0.0)

    # Positions ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def learned(self, s: float) -> Float[Tensor, " p"]:
        """λ(s) of each parameter.

        Args:
            s: in [0, 1], also where the network takes a physical scalar.
        """
        lam = self.net.schedule(s).double().cpu()
        return lam.expand(len(self.net.group_names))[self._group].clone()

    def together(self, lam: float) -> Float[Tensor, " p"]:
        """Every parameter at one λ in [0, 1]."""
        if not 0 <= lam <= 1:
            raise ValueError(f"λ = {lam:g} is not in [0, 1]; θ0 stands at 0 and θ1 at 1.")
        return torch.full((len(self._sizes),), lam, dtype=torch.float64)

    def spread(self, values: Float[Tensor, " m"]) -> Float[Tensor, " p"]:
        """A value for each layer, given to each of its parameters; differentiable."""
        return values[self._layer]

    def gather(self, values: Float[Tensor, " p"]) -> Float[Tensor, " m"]:
        """The mean over each layer's parameters: its λ where they share one."""
        sums = torch.zeros(len(self.layers), dtype=values.dtype).index_add(0, self._layer, values)
        return sums / torch.bincount(self._layer, minlength=len(self.layers))

    def hold(self, lam: Float[Tensor, " p"], layer: int, at: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """`lam`, but with one layer where it stands in `at`."""
        return torch.where(self._layer == layer, at, lam)

    # Running it --------------------------------------------------------------------------------------------------

    def parameters_at(self, lam: Float[Tensor, " p"]) -> list[Tensor]:
        """θ with every parameter at its λ; differentiable in `lam`, exact at 0 and 1.

        Raises:
            ValueError: a λ outside [0, 1], or NaN.
        """
        _require_positions(lam)
        flat0, flat1 = self.net.flat0.detach(), self.net.flat1.detach()
        return self.net._split(Blend.apply(flat0, flat1, lam[None].to(flat0), self._sizes, [])[0])

    def _placed(self) -> list[Tensor]:
        """θ at `lam`; while runs are remembered, only what has moved since the last one is made anew."""
        memory, lam = self._memory, self.lam
        if memory is None or torch.is_grad_enabled():
            return self.parameters_at(lam)
        moved = [True] * len(lam) if memory.placed_at is None else (lam != memory.placed_at).tolist()
        if 2 * sum(moved) > len(moved):
            memory.parameters = self.parameters_at(lam)
        else:
            _require_positions(lam)
            starts, ends = (flat.detach().split(self._sizes) for flat in (self.net.flat0, self.net.flat1))
            weights = lam.to(self.net.flat0)
            memory.parameters = [
                segment.view(torch.lerp(starts[i], ends[i], weights[i])) if moved[i] else memory.parameters[i]
                for i, segment in enumerate(self.net._segments)
            ]
        memory.placed_at = lam.clone()
        return memory.parameters

    def forward(self, x: Any, s: Scalar, *args: Any, **kwargs: Any) -> Any:
        """f(θ at `lam`, x, ...); s is taken and not looked at."""
        parameters = self._placed()
        if self._moving is not None:
            directions = self.net._split((self.net.flat1 - self.net.flat0).detach())
            parameters = [
                forward_ad.make_dual(value, direction) if moves else value
                for value, direction, moves in zip(parameters, directions, self._moving.tolist(), strict=True)
            ]
        with self.net._installed(parameters), evaluating(self.net.backbone):
            if self._memory is None or torch.is_grad_enabled():
                return self.net.backbone(x, *args, **kwargs)
            return self._memory.run(self.net.backbone, (x, args, kwargs), self.lam, self._moving)

    @torch.no_grad()
    def tangent(self, layer: int | None, call: Callable[[], Any]) -> tuple[Any, Any]:
        """What a call of this network returns, and its derivative J(θ1 − θ0) along one layer, by forward mode.

        Args:
            layer: its index; None moves all layers together.
            call: runs this network, alone or in something larger.

        Returns:
            The result and its derivative, of the same structure; zero where the result does not depend on the layer.
        """
        self._moving = torch.ones_like(self._layer, dtype=torch.bool) if layer is None else self._layer == layer
        try:
            with _forward_mode(self.net.backbone):
                leaves, spec = pytree.tree_flatten(call())
                values, tangents = zip(*map(_unpacked, leaves), strict=True)
        finally:
            self._moving = None
        return pytree.tree_unflatten(values, spec), pytree.tree_unflatten(tangents, spec)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Reuses outputs of layers called before the first one that has moved since the last run on the same input.

        Runs that record gradients take no part. Layers that hold other modules are run again.
        """
        self._memory = _Memory(self.net._slots)
        try:
            yield
        finally:
            self._memory = None


def _require_positions(lam: Tensor) -> None:
    inside = (lam >= 0) & (lam <= 1)
    if not bool(inside.all()):
        raise ValueError(f"λ = {lam[~inside][0].item():g} is not in [0, 1]; θ0 stands at 0 and θ1 at 1.")


class _Memory:
    """Outputs of the leaf layers of one run, for the next run up to the first parameter that has moved.

    Until then the next run calls the same modules in the same order, so the n-th call has the n-th output, as long as it
    is given the same input: a parameter may be used outside its module.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._owners = list({id(slot.module): slot.module for slot in slots}.values())
        self._outputs: list[tuple[list[Any], Any]] = []
        self._first: dict[int, int] = {}
        self.placed_at: Tensor | None = None
        self.parameters: list[Tensor] = []
        self._inputs: Any = None
        self._lam: Tensor | None = None
        self._calls = self._known = 0
        self._recording = True

    def run(self, backbone: nn.Module, inputs: Any, lam: Tensor, moved: Tensor | None = None) -> Any:
        """The backbone's output; only runs without `moved` are recorded.

        Args:
            backbone: with its parameters in place.
            inputs: (x, args, kwargs).
            lam: (p,) where the parameters stand.
            moved: (p,) parameters that carry a tangent.
        """
        self._recording, self._calls = moved is None, 0
        self._known = self._reusable(inputs, lam, moved)
        if self._recording:
            del self._outputs[self._known :]
            self._first = {key: first for key, first in self._first.items() if first < self._known}
            self._inputs = None  # until the run is through
        x, args, kwargs = inputs
        with self._between():
            output = backbone(x, *args, **kwargs)
        if self._recording:
            self._inputs, self._lam = _copied(inputs), lam.clone()
        return output

    @contextmanager
    def _between(self) -> Iterator[None]:
        """Stands between the layers and their callers; nothing of it remains in them."""
        before = [(module, module.__dict__.get("forward")) for module in self._owners]
        hooks = [module.register_forward_pre_hook(self._called) for module in self._owners]
        try:
            for module in self._owners:
                if not any(True for _ in module.children()):
                    module.__dict__["forward"] = partial(self._recall, module.forward)
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for module, forward in before:
                module.__dict__.pop("forward", None)
                if forward is not None:
                    module.__dict__["forward"] = forward

    def _reusable(self, inputs: Any, lam: Tensor, moved: Tensor | None) -> int:
        """How many outputs are those of this run too."""
        if self._inputs is None or self._lam is None or not _same(inputs, self._inputs):
            return 0
        changed = lam != self._lam if moved is None else (lam != self._lam) | moved
        holders = (id(slot.module) for slot in self._slots if changed[slot.segment])
        # A module that is never called gives its parameters to another: then nothing is known.
        return min((self._first.get(holder, 0) for holder in holders), default=len(self._outputs))

    def _called(self, module: nn.Module, _: Any) -> None:
        if self._recording:
            self._first.setdefault(id(module), self._calls)

    def _recall(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call, self._calls = self._calls, self._calls + 1
        given = [_mark(leaf) for leaf in pytree.tree_leaves((args, kwargs))]
        if call < self._known and self._outputs[call][0] == given:
            return _copied(self._outputs[call][1])  # a later layer may write into it
        self._known = min(self._known, call)
        output = forward(*args, **kwargs)
        if self._recording:
            self._outputs[call:] = [(given, _copied(output))]
        return output


def _mark(leaf: Any) -> Any:
    """What tells a value of a layer's input from others; one with a tangent equals none."""
    if isinstance(leaf, Tensor):
        primal, tangent = forward_ad.unpack_dual(leaf)
        return (leaf.shape, leaf.dtype, torch.hash_tensor(primal).item()) if tangent is None else object()
    return leaf if isinstance(leaf, bool | int | float | str | None) else object()


def _copied(values: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, values)


def _same(some: Any, others: Any) -> bool:
    """Whether two structures hold equal tensors and equal values."""
    leaves, spec = pytree.tree_flatten(some)
    other_leaves, other_spec = pytree.tree_flatten(others)
    return spec == other_spec and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b
        for a, b in zip(leaves, other_leaves, strict=True)
    )


def _unpacked(leaf: Any) -> tuple[Any, Any]:
    if not isinstance(leaf, Tensor):
        return leaf, leaf
    primal, tangent = forward_ad.unpack_dual(leaf)
    return primal, torch.zeros_like(primal) if tangent is None else tangent


class _Shared:
    """A state of the whole process, on while any thread is in it."""

    def __init__(self, switch_on: Callable[[], AbstractContextManager[object]]) -> None:
        self._switch_on, self._lock, self._users, self._state = switch_on, threading.Lock(), 0, ExitStack()

    @contextmanager
    def on(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._state.enter_context(self._switch_on())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._state.close()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without fused attention, which has no forward mode."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def _plain_recurrence() -> Iterator[None]:
    """Without the recurrent kernels of oneDNN and cuDNN, which have no forward mode."""
    before, *_ = torch.backends.mkldnn.set_flags(False)  # `flags` would touch TF32 too, and warn
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mkldnn.set_flags(before)


# torch knows one level of forward mode in a process, and chooses kernels for all threads.
_DUAL_LEVEL = _Shared(forward_ad.dual_level)
_PLAIN_ATTENTION = _Shared(_plain_attention)
_PLAIN_RECURRENCE = _Shared(_plain_recurrence)


@contextmanager
def _forward_mode(backbone: nn.Module) -> Iterator[None]:
    """Tensors may carry tangents, and a backbone meets only kernels that have a forward mode."""
    with ExitStack() as stack:
        stack.enter_context(_DUAL_LEVEL.on())
        stack.enter_context(_PLAIN_ATTENTION.on())
        if any(isinstance(module, nn.RNNBase) for module in backbone.modules()):
            stack.enter_context(_PLAIN_RECURRENCE.on())
        for norm in (module for module in backbone.modules() if isinstance(module, nn.GroupNorm)):
            # Its derivative takes a view of the input, which a transposed one does not allow.
            stack.callback(norm.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:])).remove)
        yield
