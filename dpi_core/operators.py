"""What a network is made of, whatever its class: its linear operators, its normalisations, and where their channels lie."""

from __future__ import annotations

import glob
from collections.abc import Callable

from torch import nn

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
CHANNELS_SECOND = (nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
CHANNELS_LAST = (nn.LayerNorm, nn.RMSNorm)
NORMS = (*CHANNELS_SECOND, *CHANNELS_LAST)


def linear_operators(network: nn.Module) -> dict[str, nn.Module]:
    """Linear layers and convolutions by name, in the order of registration."""
    # The output projection of nn.MultiheadAttention is read, but never called, so nothing can be attached to it.
    uncallable = nn.modules.linear.NonDynamicallyQuantizableLinear
    return _modules_of(network, lambda module: isinstance(module, LINEAR) and not isinstance(module, uncallable))


def norms(network: nn.Module) -> dict[str, nn.Module]:
    """Normalisation layers by name, in the order of registration."""
    return _modules_of(network, lambda module: isinstance(module, NORMS))


def out_channels(module: nn.Module) -> int:
    """Number of channels a linear operator or a normalisation puts out."""
    if isinstance(module, CHANNELS_LAST):
        return module.normalized_shape[-1]
    for attribute in ("out_features", "out_channels", "num_channels", "num_features"):
        if hasattr(module, attribute):
            return getattr(module, attribute)
    raise TypeError(f"{type(module).__name__} is neither a linear operator nor a normalisation")


def channel_axis(module: nn.Module) -> int:
    """The axis of its input and output that counts channels."""
    if isinstance(module, CHANNELS_SECOND):
        return 1
    axes_after = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3} | dict(zip(TRANSPOSED, (1, 2, 3), strict=True))
    return -1 - next((count for kind, count in axes_after.items() if isinstance(module, kind)), 0)


def is_bias_free(network: nn.Module) -> bool:
    """Whether no linear operator has a bias."""
    return all(operator.bias is None for operator in linear_operators(network).values())


# Scopes of DPI by name -------------------------------------------------------------------------------------------


def parameters_of(network: nn.Module, scope: str) -> tuple[str, ...]:
    """Names of the trainable parameters in a named scope, as patterns that match them alone.

    Args:
        network: any module.
        scope: a key of `SCOPES`.

    Raises:
        ValueError: the network has no such parameters.
    """
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    names = [name for name in SCOPES[scope](network) if name in trainable]
    if not names:
        raise ValueError(f"{type(network).__name__} has no parameters in the scope {scope!r}; choose another scope.")
    return tuple(glob.escape(name) for name in names)


def _ends(network: nn.Module) -> list[str]:
    names = list(linear_operators(network))
    return _parameter_names(network, [names[0], names[-1]] if names else [])


def _biases(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_parameters() if name.rsplit(".", 1)[-1].startswith("bias")]


def _parameter_names(network: nn.Module, modules: list[str]) -> list[str]:
    return [f"{path}.{key}" for path in modules for key, _ in network.get_submodule(path).named_parameters()]


SCOPES: dict[str, Callable[[nn.Module], list[str]]] = {
    "all": lambda network: [name for name, _ in network.named_parameters()],
    "first_last": _ends,
    "norms": lambda network: _parameter_names(network, list(norms(network))),
    "biases": _biases,
}
"""Scope -> the parameters that get two sets; `first_last` are the first and the last linear operator."""


def _modules_of(network: nn.Module, chosen: Callable[[nn.Module], bool]) -> dict[str, nn.Module]:
    return {name: module for name, module in network.named_modules() if chosen(module)}
