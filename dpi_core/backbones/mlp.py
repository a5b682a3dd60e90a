"""A residual multilayer perceptron for points in the plane and other small vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.backbones.checks import require_positive_ints

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "tanh": F.tanh}


@dataclass(frozen=True)
class MLPConfig:
    """Sizes of an `MLP`.

    Attributes:
        in_features: length of an input vector.
        out_features: length of an output vector.
        width: features of every hidden layer.
        depth: number of hidden layers.
        activation: one of the keys of `ACTIVATIONS`.

    Raises:
        ValueError: a size is not a positive integer, or the activation is unknown.
    """

    in_features: int = 2
    out_features: int = 2
    width: int = 256
    depth: int = 4
    activation: str = "silu"

    def __post_init__(self) -> None:
        require_positive_ints(self, "in_features", "out_features", "width", "depth")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"MLPConfig.activation is {self.activation!r}; choose one of {', '.join(ACTIVATIONS)}.")


class MLP(nn.Module):
    """Hidden layers h <- h + act(W h + b) between a linear head and a linear tail."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.activation = ACTIVATIONS[config.activation]
        self.head = nn.Linear(config.in_features, config.width)
        # The head already feeds the first activation, so it counts as the first of `depth` hidden layers.
        self.hidden = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.depth - 1))
        self.tail = nn.Linear(config.width, config.out_features)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Maps vectors to vectors; the leading axes pass through."""
        h = self.activation(self.head(x))
        for layer in self.hidden:
            h = h + self.activation(layer(h))
        return self.tail(h)
