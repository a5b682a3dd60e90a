"""Noise processes over one scalar s in [0, 1]: x_s = α(s)·x0 + σ(s)·ε, clean at s = 0, noise at s = 1.

Five quantities describe the same point of a process, given x_s:

    x0        the clean sample (a denoiser's estimate: E[x0 | x_s])
    eps       the noise ε = (x_s − α x0) / σ
    score     −ε / σ: ∇ log p(x_s | x0) for one (x0, ε), ∇ log p(x_s) with E[ε | x_s] for ε
    velocity  dx/ds along the path of one (x0, ε): α' x0 + σ' ε
    v         α ε − σ x0 (Salimans & Ho 2022), for α² + σ² = 1

A network predicts one of them, the process's `prediction`; `preconditioning` says how its output becomes x̂0:
x̂0 = c_skip·x_s + c_out·F(c_in·x_s). The other quantities follow from x̂0 and x_s. Where a division by zero stands in
the way (ε and score at σ = 0, x0 from ε at α = 0) the conversion does not exist and raises.

Values are float64 on the CPU whatever the network computes in.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.types import Scalar, as_scalar, per_sample

Kind = Literal["x0", "eps", "score", "velocity", "v"]


@dataclass(frozen=True)
class Coefficients:
    """α, σ and their derivatives by s, each shape () or (b,), float64; a derivative may be infinite at an end."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


@dataclass(frozen=True)
class Preconditioning:
    """x̂0 = c_skip·x_s + c_out·F(c_in·x_s), each shape () or (b,), float64."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


class NoiseProcess(ABC):
    """A Gaussian path from data to noise and what a network is asked to predict on it.

    Subclasses are frozen dataclasses; their fields are the keys of a config's `process` section.

    Attributes:
        prediction: what the network predicts: "x0", "eps", "v", "velocity" or "edm".
        quantity: the name of the literature's time, for read-outs.
        generative: whether s = 1 is (close enough to) pure noise, so that one can sample from there.
        ode_kind: the derivative of the state in the coordinates samplers integrate in.
    """

    prediction: str
    quantity: ClassVar[str]
    generative: ClassVar[bool] = True
    ode_kind: ClassVar[Kind] = "eps"

    @property
    def sampling_range(self) -> tuple[float, float]:
        """The s between which samplers run."""
        return (0.0, 1.0)

    @abstractmethod
    def _coefficients(self, s: Tensor) -> Coefficients: ...

    @abstractmethod
    def _s_at_ratio(self, ratio: float) -> float: ...

    @abstractmethod
    def to_native(self, s: Scalar) -> Tensor:
        """Maps s to the literature's time (DDPM step, σ, flow time), float64."""

    @abstractmethod
    def from_native(self, value: Scalar) -> Tensor:
        """The inverse of `to_native`."""

    @abstractmethod
    def describe(self, s: float) -> str:
        """The literature's time at s for a read-out, e.g. "DDPM step 580"."""

    def coefficients(self, s: Scalar) -> Coefficients:
        """α, σ, α', σ' at s.

        Args:
            s: in [0, 1], shape () or (b,).

        Raises:
            ValueError: s outside [0, 1].
        """
        if isinstance(s, float):
            return _coefficients_at(self, s)
        return self._coefficients(as_scalar(s).to(device="cpu", dtype=torch.float64))

    def preconditioning(self, s: Scalar) -> Preconditioning:
        """How the network's output becomes x̂0 at s.

        Raises:
            ValueError: x0 does not follow from the network's output there (α = 0 for ε).
        """
        c = self.coefficients(s)
        one, zero = torch.ones_like(c.alpha), torch.zeros_like(c.alpha)
        if self.prediction == "x0":
            return Preconditioning(zero, one, one)
        if self.prediction == "eps":
            if bool((c.alpha == 0).any()):
                raise ValueError(f"x0 from eps is undefined at s = {s}: α = 0; use a smaller s, or predict v.")
            return Preconditioning(1 / c.alpha, -c.sigma / c.alpha, one)
        if self.prediction == "v":
            return Preconditioning(c.alpha, -c.sigma, one)
        # x0 from velocity solves the 2×2 system of x_s and dx/ds; written so that an infinite σ' does no harm.
        determinant = c.alpha * c.d_sigma - c.sigma * c.d_alpha
        return Preconditioning(c.d_sigma / determinant, -c.sigma / determinant, one)

    def add_noise(self, x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], s: Scalar) -> Float[Tensor, "b ..."]:
        """x_s = α x0 + σ ε."""
        c = self.coefficients(s)
        return per_sample(c.alpha, x0) * x0 + per_sample(c.sigma, x0) * eps

    def target(self, x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], s: Scalar) -> Float[Tensor, "b ..."]:
        """What the network is trained to output for the sample made of x0 and ε."""
        c = self.coefficients(s)
        return self._from_clean_and_noise(self.prediction, x0, eps, c)  # type: ignore[arg-type]

    def exists(self, kind: Kind, s: Scalar, given: Kind = "x0") -> bool:
        """Whether `kind` can be computed from `given` and x_s at every s asked for."""
        return self._obstacle(kind, given, self.coefficients(s)) is None

    def convert(self, value: Float[Tensor, "b ..."], given: Kind, kind: Kind, x_s: Tensor, s: Scalar) -> Tensor:
        """Turns one quantity into another at the same x_s.

        Args:
            value: the quantity `given`, same shape as `x_s`.
            given: what `value` is.
            kind: what is wanted.
            x_s: the noised sample, shape (b, ...).
            s: shape () or (b,).

        Raises:
            ValueError: the conversion does not exist at this s; the message says why.
        """
        c = self.coefficients(s)
        obstacle = self._obstacle(kind, given, c)
        if obstacle is not None:
            raise ValueError(f"{kind} from {given} is undefined at s = {s}: {obstacle}; stay inside (0, 1).")
        if kind == given:
            return value
        x0, eps = self._clean_and_noise(value, given, x_s, c)
        return self._from_clean_and_noise(kind, x0, eps, c)

    def _clean_and_noise(
        self, value: Tensor, given: Kind, x_s: Tensor, c: Coefficients
    ) -> tuple[Tensor, Tensor | None]:
        """(x0, ε) that both reproduce x_s and `value`; ε is None at σ = 0."""
        alpha, sigma = per_sample(c.alpha, x_s), per_sample(c.sigma, x_s)
        if given == "x0":
            return value, (x_s - alpha * value) / sigma if bool((c.sigma > 0).all()) else None
        if given in ("eps", "score"):
            eps = value if given == "eps" else -sigma * value
            return (x_s - sigma * eps) / alpha, eps
        if given == "v":
            return alpha * x_s - sigma * value, sigma * x_s + alpha * value
        d_alpha, d_sigma = per_sample(c.d_alpha, x_s), per_sample(c.d_sigma, x_s)
        determinant = alpha * d_sigma - sigma * d_alpha
        return (d_sigma * x_s - sigma * value) / determinant, (alpha * value - d_alpha * x_s) / determinant

    @staticmethod
    def _from_clean_and_noise(kind: Kind, x0: Tensor, eps: Tensor | None, c: Coefficients) -> Tensor:
        if kind == "x0":
            return x0
        assert eps is not None
        if kind == "eps":
            return eps
        if kind == "score":
            return -eps / per_sample(c.sigma, x0)
        if kind == "v":
            return per_sample(c.alpha, x0) * eps - per_sample(c.sigma, x0) * x0
        return per_sample(c.d_alpha, x0) * x0 + per_sample(c.d_sigma, x0) * eps

    def _obstacle(self, kind: Kind, given: Kind, c: Coefficients) -> str | None:
        """Why a conversion does not exist, or None."""
        finite_slope = bool(torch.isfinite(c.d_sigma).all() and torch.isfinite(c.d_alpha).all())
        unit_variance = bool(((c.alpha**2 + c.sigma**2 - 1).abs() < 1e-12).all())
        if "v" in (kind, given) and not unit_variance:
            return "v needs α² + σ² = 1"
        if "velocity" in (kind, given) and not finite_slope:
            return "the noise level has infinite slope there"
        noise = {"eps", "score"}
        clean = bool((c.sigma == 0).any())
        if clean and not noise.isdisjoint((kind, given)):
            return "σ = 0, so the sample carries no noise"
        if kind == given:
            return None
        if clean and given == "x0":
            return "σ = 0, so x_s and x0 say the same and leave the noise open"
        if given in noise and kind not in noise and bool((c.alpha == 0).any()):
            return "α = 0, so the sample carries nothing of x0"
        return None

    def s_at_ratio(self, ratio: float) -> float:
        """The s where σ/α takes a value of at least 0; the nearest end of [0, 1] where it never does."""
        return min(max(self._s_at_ratio(ratio), 0.0), 1.0)

    # The probability-flow ODE in the coordinates samplers integrate in ----------------------------------------------

    def ode_time(self, s: float) -> float:
        """Diffusion ODEs run in τ = σ/α, where x/α has the derivative ε (Song et al. 2021; Karras et al. 2022)."""
        c = self.coefficients(s)
        return (c.sigma / c.alpha).item()

    def s_at_ode_time(self, time: float) -> float:
        """The inverse of `ode_time`; the nearest end of [0, 1] for a time the process never takes."""
        return self.s_at_ratio(time)

    def ode_scale(self, s: float) -> float:
        """The state in those coordinates is x_s divided by this."""
        return self.coefficients(s).alpha.item()

    @property
    def prior_std(self) -> float:
        """Standard deviation of the noise samplers start from."""
        c = self.coefficients(self.sampling_range[1])
        return math.hypot(c.alpha.item(), c.sigma.item())


@lru_cache(maxsize=256)
def _coefficients_at(process: NoiseProcess, s: float) -> Coefficients:
    """Those at one s, which every step of a sampler asks for several times."""
    return process._coefficients(as_scalar(s))


@dataclass(frozen=True)
class VPDiffusion(NoiseProcess):
    """Variance-preserving diffusion, α² + σ² = 1; the network predicts v (Salimans & Ho 2022).

    Literature's time: the DDPM step n = 1000·s of Ho et al. 2020 (n steps of noise were added).
    "linear" is the continuous limit of their linear β from 1e-4 to 0.02 (Song et al. 2021, VP-SDE with β from 0.1 to 20);
    "cosine" is Nichol & Dhariwal 2021 with offset 0.008, where α(1) = 0 exactly, so samplers start at s = 0.996.
    """

    schedule: Literal["linear", "cosine"] = "linear"
    prediction: Literal["v", "eps", "x0"] = "v"

    quantity: ClassVar[str] = "DDPM step"
    n_steps: ClassVar[int] = 1000
    beta_low: ClassVar[float] = 0.1
    beta_high: ClassVar[float] = 20.0
    cosine_offset: ClassVar[float] = 0.008

    def __post_init__(self) -> None:
        _check_choice("schedule", self.schedule, ("linear", "cosine"))
        _check_choice("prediction", self.prediction, ("v", "eps", "x0"))

    @property
    def sampling_range(self) -> tuple[float, float]:
        """The cosine schedule's end has no signal at all, where σ/α is infinite."""
        return (0.0, 1.0 if self.schedule == "linear" else 0.996)

    def _coefficients(self, s: Tensor) -> Coefficients:
        return self._linear(s) if self.schedule == "linear" else self._cosine(s)

    def _linear(self, s: Tensor) -> Coefficients:
        span = self.beta_high - self.beta_low
        log_alpha = -0.25 * span * s**2 - 0.5 * self.beta_low * s
        d_log_alpha = -0.5 * (span * s + self.beta_low)
        alpha, sigma = log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()
        return Coefficients(alpha, sigma, alpha * d_log_alpha, -(alpha**2) * d_log_alpha / sigma)

    def _cosine(self, s: Tensor) -> Coefficients:
        speed = 0.5 * math.pi / (1 + self.cosine_offset)
        start = speed * self.cosine_offset
        scale = math.cos(start)
        # sin of the angle left to π/2 is exactly 0 at s = 1, where cos of the angle would be 6e-17.
        alpha = torch.sin(speed * (1 - s)) / scale
        sigma = (torch.sin(2 * start + speed * s) * torch.sin(speed * s)).sqrt() / scale
        d_alpha = -speed * torch.cos(speed * (1 - s)) / scale
        return Coefficients(alpha, sigma, d_alpha, -alpha * d_alpha / sigma)

    def _s_at_ratio(self, ratio: float) -> float:
        if self.schedule == "cosine":
            scale = math.cos(0.5 * math.pi * self.cosine_offset / (1 + self.cosine_offset))
            return 1 - math.asin(scale / math.hypot(1, ratio)) * (1 + self.cosine_offset) / (0.5 * math.pi)
        # −log α is quadratic in s; this form of the root does not cancel near s = 0.
        minus_log_alpha, half_low = 0.5 * math.log1p(ratio**2), 0.5 * self.beta_low
        curvature = self.beta_high - self.beta_low
        return 2 * minus_log_alpha / (half_low + math.sqrt(half_low**2 + curvature * minus_log_alpha))

    def to_native(self, s: Scalar) -> Tensor:
        """Maps s to the DDPM step in [0, 1000]."""
        return as_scalar(s).double() * self.n_steps

    def from_native(self, value: Scalar) -> Tensor:
        """DDPM step in [0, 1000] -> s."""
        return as_scalar(value, high=self.n_steps).double() / self.n_steps

    def describe(self, s: float) -> str:
        """The DDPM step at s."""
        return f"DDPM step {self.to_native(s).item():.0f}"


@dataclass(frozen=True)
class VEDiffusion(NoiseProcess):
    """Variance-exploding diffusion with EDM's preconditioning (Karras et al. 2022, table 1): α = 1, s = 0 is σ_min.

    Literature's time: σ = (σ_min^(1/ρ) + s·(σ_max^(1/ρ) − σ_min^(1/ρ)))^ρ, their equation 5 read from the clean end.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    rho: float = 7.0
    prediction: Literal["edm"] = "edm"

    quantity: ClassVar[str] = "σ"

    def __post_init__(self) -> None:
        _check_choice("prediction", self.prediction, ("edm",))
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"σ runs from {self.sigma_min:g} to {self.sigma_max:g}, but has to rise from above 0.")
        if not (self.sigma_data > 0 and self.rho > 0):
            raise ValueError(f"σ_data = {self.sigma_data:g} and ρ = {self.rho:g} have to be positive.")

    def _coefficients(self, s: Tensor) -> Coefficients:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        root = low + s * (high - low)
        slope = self.rho * root ** (self.rho - 1) * (high - low)
        # Rounding must not carry the ends out of the range that `from_native` accepts.
        sigma = (root**self.rho).clamp(self.sigma_min, self.sigma_max)
        return Coefficients(torch.ones_like(s), sigma, torch.zeros_like(s), slope)

    def preconditioning(self, s: Scalar) -> Preconditioning:
        """Karras et al. 2022, table 1, last column."""
        sigma, data = self.coefficients(s).sigma, self.sigma_data
        total = sigma**2 + data**2
        return Preconditioning(data**2 / total, sigma * data / total.sqrt(), 1 / total.sqrt())

    def target(self, x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], s: Scalar) -> Float[Tensor, "b ..."]:
        """(x0 − c_skip·x_s) / c_out, their equation 8."""
        pre = self.preconditioning(s)
        x_s = self.add_noise(x0, eps, s)
        return (x0 - per_sample(pre.c_skip, x0) * x_s) / per_sample(pre.c_out, x0)

    def _s_at_ratio(self, ratio: float) -> float:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (ratio ** (1 / self.rho) - low) / (high - low)

    def to_native(self, s: Scalar) -> Tensor:
        """Maps s to σ."""
        return self.coefficients(s).sigma

    def from_native(self, value: Scalar) -> Tensor:
        """σ -> s."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = as_scalar(value, low=self.sigma_min, high=self.sigma_max).double()
        return ((sigma ** (1 / self.rho) - low) / (high - low)).clamp(0, 1)

    def describe(self, s: float) -> str:
        """σ at s."""
        return f"σ {self.to_native(s).item():.3g}"


@dataclass(frozen=True)
class AWGN(NoiseProcess):
    """Plain additive white Gaussian noise, α = 1, σ = σ_max·s; the network predicts x0 without preconditioning.

    Bias-free networks keep their scaling f(a·x) = a·f(x), and σ = 0 is clean. Literature's time: σ on 0..255, for images
    in [-1, 1] (so σ_255 = 127.5·σ). The noise never drowns the image, so there is nothing to sample from.
    """

    sigma_max: float = 75 / 127.5
    prediction: Literal["x0", "eps"] = "x0"

    quantity: ClassVar[str] = "σ (of 255)"
    generative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_choice("prediction", self.prediction, ("x0", "eps"))
        if not self.sigma_max > 0:
            raise ValueError(f"σ_max = {self.sigma_max:g} has to be positive.")

    def _coefficients(self, s: Tensor) -> Coefficients:
        return Coefficients(
            torch.ones_like(s), self.sigma_max * s, torch.zeros_like(s), torch.full_like(s, self.sigma_max)
        )

    def _s_at_ratio(self, ratio: float) -> float:
        return ratio / self.sigma_max

    def to_native(self, s: Scalar) -> Tensor:
        """Maps s to σ on 0..255."""
        return as_scalar(s).double() * self.sigma_max * 127.5

    def from_native(self, value: Scalar) -> Tensor:
        """σ on 0..255 -> s."""
        return as_scalar(value, high=self.sigma_max * 127.5).double() / (self.sigma_max * 127.5)

    def describe(self, s: float) -> str:
        """σ on 0..255 at s."""
        return f"σ {self.to_native(s).item():.1f} of 255"


@dataclass(frozen=True)
class FlowMatching(NoiseProcess):
    """Flow matching on the linear path x_s = (1 − s)·x0 + s·ε; the network predicts the velocity ε − x0.

    Literature's time: Lipman et al. 2023 run from noise at 0 to data at 1, so their flow time is 1 − s.
    """

    prediction: Literal["velocity", "x0"] = "velocity"

    quantity: ClassVar[str] = "flow time"
    ode_kind: ClassVar[Kind] = "velocity"

    def __post_init__(self) -> None:
        _check_choice("prediction", self.prediction, ("velocity", "x0"))

    def _coefficients(self, s: Tensor) -> Coefficients:
        return Coefficients(1 - s, s.clone(), -torch.ones_like(s), torch.ones_like(s))

    def _s_at_ratio(self, ratio: float) -> float:
        return ratio / (1 + ratio)

    def to_native(self, s: Scalar) -> Tensor:
        """Maps s to the flow time 1 − s."""
        return 1 - as_scalar(s).double()

    def from_native(self, value: Scalar) -> Tensor:
        """Flow time -> s."""
        return 1 - as_scalar(value).double()

    def describe(self, s: float) -> str:
        """Flow time at s."""
        return f"flow time {self.to_native(s).item():.2f}"

    def ode_time(self, s: float) -> float:
        """The flow's ODE is dx/ds = velocity as it stands."""
        return s

    def s_at_ode_time(self, time: float) -> float:
        """Flow runs in s."""
        return min(max(time, 0.0), 1.0)

    def ode_scale(self, s: float) -> float:
        """No rescaling."""
        return 1.0


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{key} is {value!r}, but has to be one of {', '.join(map(repr, choices))}.")


PROCESSES: dict[str, type[NoiseProcess]] = {"vp": VPDiffusion, "edm": VEDiffusion, "awgn": AWGN, "flow": FlowMatching}
