"""Noise as a code for samples: points between two of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

PARALLEL = 1e-6
"""Below this angle in radians a great circle is a straight line to float64's precision; as near to π it has no direction."""


def slerp(a: Float[Tensor, "*sample"], b: Float[Tensor, "*sample"], t: Float[Tensor, " n"]) -> Float[Tensor, "n ..."]:
    """Points on the great circle from a to b (Shoemake 1985): noise of the right size between two draws of noise.

    The plain mean of two independent draws is shorter than either by √2, and no sampler was trained to start there. Between
    vectors of different length the length goes over from one to the other. Nearly parallel vectors are joined by a
    straight line.

    Args:
        a: the point at t = 0, any shape.
        b: the point at t = 1.
        t: where, in [0, 1], shape (n,).

    Raises:
        ValueError: t outside [0, 1], a vector of length 0, or opposite vectors, between which no great circle is the shortest.
    """
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"t is {t.tolist()}, but positions between two samples have to be in [0, 1].")
    a, b, t = a.double(), b.double(), t.double().reshape(-1, *([1] * a.ndim))
    if not (a.norm() > 0 and b.norm() > 0):
        raise ValueError("one of the two points has length 0, so it has no direction; take noise.")
    u, v = a / a.norm(), b / b.norm()
    angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())
    if angle > torch.pi - PARALLEL:
        raise ValueError("the two points are opposite, so there is no shortest way between them; take other noise.")
    if angle < PARALLEL:
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
