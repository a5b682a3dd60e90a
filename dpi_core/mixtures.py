r"""Gaussian mixtures, for which every denoising question has a closed-form answer.

If x0 has density sum_k w_k N(mu_k, Sigma_k) and x_s = alpha x0 + sigma eps, then x_s is a mixture too:

    p_s(x)        = sum_k w_k N(x; alpha mu_k, C_k),         C_k = alpha^2 Sigma_k + sigma^2 I
    gamma_k(x)    = w_k N(x; alpha mu_k, C_k) / p_s(x)       which component x came from
    E[x0 | x_s=x] = sum_k gamma_k (mu_k + alpha Sigma_k C_k^-1 (x - alpha mu_k))
    grad log p_s  = -sum_k gamma_k C_k^-1 (x - alpha mu_k)

Sigma_k and C_k share eigenvectors, so one eigendecomposition per component serves every alpha and sigma and nothing
is inverted: the formulas stay exact at sigma = 0, where the mean is x / alpha, and at alpha = 0, where it is E[x0].
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

Coefficient = float | Float[Tensor, ""] | Float[Tensor, " b"]
"""alpha or sigma of the noise process: one for all points, or one per point."""


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of k Gaussians in d dimensions, computed in float64 on the CPU.

    Attributes:
        means: (k, d), float64.
        covariances: (k, d, d), float64, symmetric and positive definite.
        weights: (k,), float64, positive, summing to 1.

    Raises:
        ValueError: the shapes disagree, a covariance is not positive definite, or the weights are no distribution.
    """

    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d d"]
    weights: Float[Tensor, " k"]

    def __post_init__(self) -> None:
        k, d = self.means.shape
        if self.covariances.shape != (k, d, d) or self.weights.shape != (k,):
            raise ValueError(
                f"covariances have shape {tuple(self.covariances.shape)} and weights {tuple(self.weights.shape)}, but "
                f"means of shape ({k}, {d}) need ({k}, {d}, {d}) and ({k},)."
            )
        for name in ("means", "covariances", "weights"):
            object.__setattr__(self, name, getattr(self, name).to("cpu", torch.float64))
        if not (self.weights > 0).all() or abs(self.weights.sum().item() - 1) > 1e-9:
            raise ValueError(
                f"weights are {self.weights.tolist()}; they must be positive and sum to 1, so normalise them."
            )
        # A Cholesky factorisation reads one triangle only, so asymmetry has to be looked for.
        definite = torch.linalg.cholesky_ex(self.covariances).info == 0
        if not torch.allclose(self.covariances, self.covariances.mT) or not definite.all():
            raise ValueError(
                f"covariances are {self.covariances.tolist()}; each must be symmetric and positive definite, "
                "so symmetrise them and add a small multiple of the identity."
            )

    @classmethod
    def isotropic(
        cls, means: Float[Tensor, "k d"], stds: Float[Tensor, " k"], weights: Float[Tensor, " k"] | None = None
    ) -> "GaussianMixture":
        """Builds a mixture of round Gaussians.

        Args:
            means: (k, d).
            stds: (k,), positive.
            weights: (k,); equal weights if None.
        """
        k, d = means.shape
        variances = stds.to(torch.float64).square()
        weights = torch.full((k,), 1 / k, dtype=torch.float64) if weights is None else weights
        return cls(means, variances[:, None, None] * torch.eye(d, dtype=torch.float64), weights)

    @property
    def dim(self) -> int:
        """Number of coordinates of a point."""
        return self.means.shape[1]

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """E[x0]."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Cov[x0]: the components' covariances plus the covariance of their means."""
        offsets = self.means - self.mean
        between = einsum(self.weights, offsets, offsets, "k, k i, k j -> i j")
        return einsum(self.weights, self.covariances, "k, k i j -> i j") + between

    @cached_property
    def _eigen(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d d"]]:
        """Variances along the principal axes of each component, and those axes as columns."""
        variances, axes = torch.linalg.eigh(self.covariances)
        return variances, axes

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws n independent points, float64."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        normal = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        variances, axes = self._eigen
        return self.means[component] + einsum(
            axes[component], variances[component].sqrt() * normal, "n i j, n j -> n i"
        )

    def log_prob(
        self, x: Float[Tensor, "b d"], alpha: Coefficient = 1.0, sigma: Coefficient = 0.0
    ) -> Float[Tensor, " b"]:
        """Returns the log density of alpha x0 + sigma eps at x; of the mixture itself by default.

        Raises:
            ValueError: alpha and sigma are both zero, or one is negative or not finite.
        """
        return _Noisy(self, x, alpha, sigma).log_joint.logsumexp(dim=1).to(x)

    def posterior_mean(self, x_s: Float[Tensor, "b d"], alpha: Coefficient, sigma: Coefficient) -> Float[Tensor, "b d"]:
        """Returns E[x0 | x_s = alpha x0 + sigma eps], the denoiser with the least mean squared error.

        Args:
            x_s: noisy points.
            alpha: at least 0, one for all points or one each.
            sigma: at least 0, one for all points or one each.

        Returns:
            The means, in the dtype and on the device of x_s.

        Raises:
            ValueError: alpha and sigma are both zero, or one is negative or not finite.
        """
        noisy = _Noisy(self, x_s, alpha, sigma)
        variances, axes = self._eigen
        shift = noisy.alpha * variances / noisy.variances * noisy.offsets
        means = self.means + einsum(axes, shift, "k i j, b k j -> b k i")
        return einsum(noisy.responsibilities, means, "b k, b k i -> b i").to(x_s)

    def score(self, x_s: Float[Tensor, "b d"], alpha: Coefficient, sigma: Coefficient) -> Float[Tensor, "b d"]:
        """Returns the gradient of log p_s at x_s.

        Raises:
            ValueError: alpha and sigma are both zero, or one is negative or not finite.
        """
        noisy = _Noisy(self, x_s, alpha, sigma)
        pull = einsum(self._eigen[1], noisy.offsets / noisy.variances, "k i j, b k j -> b k i")
        return -einsum(noisy.responsibilities, pull, "b k, b k i -> b i").to(x_s)


class _Noisy:
    """Points seen from every noisy component, along the component's principal axes.

    `offsets` and `variances` have shape (b, k, d): x - alpha mu_k and the eigenvalues of C_k.
    """

    def __init__(self, mixture: GaussianMixture, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> None:
        self.alpha = _coefficient("alpha", alpha)
        sigma = _coefficient("sigma", sigma)
        variances, axes = mixture._eigen
        self.variances = self.alpha.square() * variances + sigma.square()
        if not (self.variances > 0).all():
            raise ValueError("alpha and sigma are both 0, which leaves x_s no distribution; make one of them positive.")
        points = rearrange(x.to("cpu", torch.float64), "b d -> b 1 d")
        self.offsets = einsum(axes, points - self.alpha * mixture.means, "k i j, b k i -> b k j")
        mahalanobis = (self.offsets.square() / self.variances).sum(-1)
        log_volume = (2 * math.pi * self.variances).log().sum(-1)
        self.log_joint = mixture.weights.log() - (mahalanobis + log_volume) / 2

    @property
    def responsibilities(self) -> Float[Tensor, "b k"]:
        return self.log_joint.softmax(dim=1)


def _coefficient(name: str, value: Coefficient) -> Float[Tensor, "b 1 1"]:
    column = torch.as_tensor(value, dtype=torch.float64, device="cpu").reshape(-1, 1, 1)
    if not (column.isfinite() & (column >= 0)).all():
        raise ValueError(f"{name} is {value!r}; it must be finite and at least 0, so take it from a noise process.")
    return column


def ring_mixture(n_components: int = 8, std: float = 0.1) -> GaussianMixture:
    """Builds round Gaussians of equal weight on a circle, each coordinate of variance 1 overall.

    Args:
        n_components: number of Gaussians, at least 3.
        std: standard deviation of each, in (0, 1).

    Raises:
        ValueError: an argument is out of range.
    """
    if n_components < 3 or not 0 < std < 1:
        raise ValueError(f"n_components = {n_components} and std = {std}; use at least 3 components and 0 < std < 1.")
    # Per coordinate the variance is radius^2 / 2 + std^2.
    radius = math.sqrt(2 * (1 - std**2))
    angle = 2 * math.pi * torch.arange(n_components, dtype=torch.float64) / n_components
    means = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return GaussianMixture.isotropic(means, torch.full((n_components,), std, dtype=torch.float64))
