"""Sampling paths in numbers: how straight they are, how far runs part, how close the end is to the data; their best plane.

Paths are tensors of shape (k, n, ...): k states of n samples, from noise to sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PathStatistics:
    """The shape of each sample's path.

    Attributes:
        length: sum of the distances between states, (n,).
        chord: distance from the first to the last state, (n,).
        straightness: chord / length, in [0, 1], 1 for a straight line and for a point, (n,).
        turning: sum of the angles between successive steps, in radians, (n,).
    """

    length: Tensor
    chord: Tensor
    straightness: Tensor
    turning: Tensor


def path_statistics(x: Float[Tensor, "k n ..."]) -> PathStatistics:
    """Measures paths.

    Args:
        x: (k, n, ...), k at least 2.

    Raises:
        ValueError: fewer than two states.
    """
    if len(x) < 2:
        raise ValueError(f"the path has {len(x)} state, but at least 2 are needed; take a step first.")
    steps = x.double().flatten(2).diff(dim=0)
    sizes = steps.norm(dim=-1)
    length, chord = sizes.sum(0), steps.sum(0).norm(dim=-1)
    straightness = torch.where(length > 0, chord / length, 1.0)
    return PathStatistics(length, chord, straightness.clamp(max=1.0), _angles(steps).sum(0))


def distance(x: Float[Tensor, "*k n ..."], y: Float[Tensor, "*k n ..."], sample_ndim: int) -> Float[Tensor, "*k n"]:
    """Root mean square difference of each sample, over its entries.

    Args:
        x: (..., n, *sample).
        y: the same samples by another run, from the same noise.
        sample_ndim: axes of one sample.
    """
    return (x.double() - y.double()).square().flatten(-sample_ndim).mean(-1).sqrt()


@dataclass(frozen=True)
class PrincipalPlane:
    """The plane that holds most of the variance of some points, with coordinates on it.

    Attributes:
        mean: of the points, (d,) for samples of d entries; the origin of the coordinates.
        axes: (2, d) orthonormal, in order of variance; the entry of largest size of each is positive.
        shares: (2,) of the points' variance along each axis, in [0, 1]; 0 for points that all coincide.
        shape: of one sample.
    """

    mean: Tensor
    axes: Tensor
    shares: Tensor
    shape: tuple[int, ...]

    def project(self, x: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Coordinates of samples on the plane, these or others: (..., *shape) -> (..., 2).

        Raises:
            ValueError: samples of another shape.
        """
        ndim = len(self.shape)
        if tuple(x.shape[x.ndim - ndim :]) != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, but has to end in {self.shape}, the shape of one sample.")
        return (x.double().flatten(x.ndim - ndim) - self.mean) @ self.axes.T

    def at(self, coordinates: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """The sample at a place of the plane: (..., 2) -> (..., *shape)."""
        return (coordinates.double() @ self.axes + self.mean).unflatten(-1, self.shape)


def principal_plane(points: Float[Tensor, "m ..."]) -> PrincipalPlane:
    """Principal components of samples: of paths (k, n, ...), flatten the first two axes.

    Args:
        points: (m, *shape), m at least 2.

    Raises:
        ValueError: fewer than 2 points, or samples of fewer than 2 entries.
    """
    shape = tuple(points.shape[1:])
    flat = points.double().reshape(len(points), -1)
    if min(flat.shape) < 2:
        raise ValueError(
            f"there are {len(flat)} samples of {flat.shape[1]} entries, but a plane needs at least 2 of each."
        )
    mean = flat.mean(0)
    _, sizes, axes = torch.linalg.svd(flat - mean, full_matrices=False)
    axes, total = axes[:2], sizes.square().sum()
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return PrincipalPlane(
        mean, signs * axes, sizes[:2].square() / total if total > 0 else torch.zeros_like(sizes[:2]), shape
    )


def energy_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """E‖X − Y‖ − ½ E‖X − X'‖ − ½ E‖Y − Y'‖ (Székely & Rizzo 2013, halved), without bias; 0 for equal distributions.

    Raises:
        ValueError: fewer than two points on a side.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"there are {len(x)} and {len(y)} points, but a distance needs at least 2 on each side.")

    def within(points: Tensor) -> Tensor:
        return torch.pdist(points).mean()

    x, y = x.double(), y.double()
    return (torch.cdist(x, y).mean() - (within(x) + within(y)) / 2).item()


def _angles(steps: Float[Tensor, "k n d"]) -> Float[Tensor, "j n"]:
    """Between successive steps, by Kahan's formula, which keeps small angles; 0 beside a step of length 0."""
    sizes = steps.norm(dim=-1, keepdim=True)
    units = torch.where(sizes > 0, steps / sizes, 0.0)
    before, after = units[:-1], units[1:]
    angles = 2 * torch.atan2((before - after).norm(dim=-1), (before + after).norm(dim=-1))
    still = (sizes[:-1] == 0) | (sizes[1:] == 0)
    return torch.where(still.squeeze(-1), 0.0, angles)
