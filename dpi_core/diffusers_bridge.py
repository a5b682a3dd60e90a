"""Between this library and diffusers: a model as the `unet` of a pipeline, and a scheduler that drives a denoiser.

Both count time their own way. With s the scalar here, a diffusers timestep t is

    VP diffusion     t = 1000·s − 1, so that step t holds the signal of t + 1 noising steps
    flow matching    t = 1000·s, their σ is s
    EDM              t = log(σ)/4, and the scheduler does the preconditioning itself

so the β of a scheduler have to be those of the process: `make_scheduler` builds one that has them.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.denoiser import Denoiser
from dpi_core.model import Model
from dpi_core.noise_processes import FlowMatching, NoiseProcess, VEDiffusion, VPDiffusion

STEPS = 1000
PREDICTIONS = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}
"""What a network predicts -> how diffusers calls it."""


@dataclass(frozen=True)
class Answer:
    """What a pipeline expects of a unet: `.sample`, the network's prediction, shape (b, c, h, w)."""

    sample: Tensor


class DiffusersUNet(nn.Module):
    """A model in the place of a `UNet2DModel`: `unet(sample, timestep).sample`.

    Args:
        model: of square images, on a process diffusers has a scheduler for.

    Raises:
        ValueError: the model is not of square images, or diffusers has no scheduler for its process.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        shape = model.recipe.shape
        if len(shape) != 3 or shape[1] != shape[2]:
            raise ValueError(f"{model.recipe.name} is of shape {shape}, but pipelines make square images (c, n, n).")
        self.config = _config(model)
        self.denoiser = model.denoiser

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.denoiser.dtype

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.denoiser.device

    def forward(
        self, sample: Float[Tensor, "b c h w"], timestep: Tensor | float, return_dict: bool = True, **_: Any
    ) -> Answer | tuple[Tensor]:
        """The prediction at a timestep of diffusers, in the form pipelines read."""
        output = prediction(self.denoiser, sample, timestep)
        return Answer(output) if return_dict else (output,)


def prediction(denoiser: Denoiser, sample: Tensor, timestep: Tensor | float) -> Tensor:
    """What a scheduler expects of the model at its timestep, shape of `sample`."""
    process = denoiser.process
    s = scalar_at(process, timestep)
    if isinstance(process, VEDiffusion):  # the scheduler has multiplied by c_in already
        return denoiser.net(sample.to(denoiser.dtype), denoiser.physical(s)).to(sample.dtype)
    if isinstance(process, FlowMatching):
        velocity = denoiser.predict(sample, s).velocity
        assert velocity is not None
        return velocity
    return denoiser.network_output(sample, s)


def scalar_at(process: NoiseProcess, timestep: Tensor | float) -> Tensor:
    """S at a timestep of diffusers, in [0, 1], shape () or (b,), on the CPU."""
    t = torch.as_tensor(timestep).double().cpu()
    if isinstance(process, VEDiffusion):
        return process.from_native((4 * t).exp().clamp(process.sigma_min, process.sigma_max))
    return ((t + 1 if isinstance(process, VPDiffusion) else t) / STEPS).clamp(0, 1)


def scheduler_settings(process: NoiseProcess) -> dict[str, Any]:
    """The keys of a scheduler's config under which it is this process.

    Raises:
        ValueError: diffusers has no scheduler for it.
    """
    if isinstance(process, VPDiffusion):
        levels = process.coefficients(torch.arange(STEPS + 1, dtype=torch.float64) / STEPS).alpha.square()
        return {
            "num_train_timesteps": STEPS,
            "trained_betas": (1 - levels[1:] / levels[:-1]).tolist(),
            "prediction_type": PREDICTIONS[process.prediction],
            "timestep_spacing": "trailing",
            "clip_sample": False,
        }
    if isinstance(process, FlowMatching):
        return {"num_train_timesteps": STEPS, "shift": 1.0}
    if isinstance(process, VEDiffusion):
        sizes = {key: getattr(process, key) for key in ("sigma_min", "sigma_max", "sigma_data", "rho")}
        return {**sizes, "sigma_schedule": "karras", "prediction_type": "epsilon", "num_train_timesteps": STEPS}
    raise ValueError(f"{type(process).__name__} is no process of diffusers' schedulers; use VP, flow matching or EDM.")


def make_scheduler(process: NoiseProcess, scheduler: type[Any]) -> Any:
    """A scheduler of diffusers for a process of ours.

    Args:
        process: VP diffusion (for DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, ...), flow matching
            (FlowMatchEulerDiscreteScheduler, ...), or EDM (EDMEulerScheduler, ...).
        scheduler: the class.

    Raises:
        ValueError: diffusers has no scheduler for the process.
    """
    known = inspect.signature(scheduler.__init__).parameters
    return scheduler(**{key: value for key, value in scheduler_settings(process).items() if key in known})


@torch.no_grad()
def sample_with(model: Model, scheduler: Any, n: int, steps: int, seed: int = 0) -> Float[Tensor, "n ..."]:
    """Draws samples by a scheduler of diffusers.

    Args:
        model: of any shape.
        scheduler: from `make_scheduler`.
        n: how many.
        steps: of the scheduler.
        seed: of the noise to start from; sample i has its own, as in `Model.sample`.
    """
    _set_steps(scheduler, model.process, steps)
    denoiser = model.denoiser
    x = model.noise(range(n), seed).to(denoiser.device, denoiser.dtype)
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(prediction(denoiser, scaled, timestep), timestep, x).prev_sample
    return x


def _set_steps(scheduler: Any, process: NoiseProcess, steps: int) -> None:
    if isinstance(process, FlowMatching):  # theirs would stop short of the clean end by one step's share
        scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    else:
        scheduler.set_timesteps(steps)


def _config(model: Model) -> Any:
    from diffusers.configuration_utils import FrozenDict

    scheduler_settings(model.process)  # raises where there is none
    channels, size, _ = model.recipe.shape
    return FrozenDict(in_channels=channels, out_channels=channels, sample_size=size)
