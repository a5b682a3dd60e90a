"""Our models in diffusers' pipelines and diffusers' schedulers on our denoisers, against our own samplers."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.conditioning import ConditioningConfig
from dpi_core.diffusers_bridge import DiffusersUNet, make_scheduler, sample_with, scalar_at
from dpi_core.lambda_schedules import ScalarRange
from dpi_core.model import Model
from dpi_core.noise_processes import AWGN, FlowMatching, VEDiffusion, VPDiffusion
from dpi_core.samplers import SampleNoise, ddim_step

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
RECIPE = recipe_from_dict(
    {
        "name": "digits-vp-dpi",
        "data": {"kind": "digits"},
        "shape": [1, 8, 8],
        "process": {"kind": "vp"},
        "backbone": {"kind": "drunet", "channels": [8, 8], "blocks": 1},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 3},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)


def made(process, **changes) -> Model:
    """A model whose two sets differ, so that a wrong scalar shows."""
    recipe = dataclasses.replace(RECIPE, process=process, **changes)
    denoiser = build_denoiser(recipe).eval()
    denoiser.net.separate(0.5, torch.Generator().manual_seed(0))
    return Model(denoiser, recipe)


def scheduler_class(name: str):
    import diffusers

    return getattr(diffusers, name)


@pytest.mark.parametrize(
    ("process", "scheduler", "steps", "sampler", "own_steps"),
    [
        (VPDiffusion(), "DDIMScheduler", 20, "ddim", 20),
        (VPDiffusion("cosine"), "DDIMScheduler", 10, None, 0),
        (VPDiffusion(prediction="eps"), "DDIMScheduler", 10, "ddim", 10),
        (VPDiffusion(prediction="x0"), "DDIMScheduler", 10, "ddim", 10),
        (FlowMatching(), "FlowMatchEulerDiscreteScheduler", 12, "euler", 12),
        (FlowMatching(prediction="x0"), "FlowMatchEulerDiscreteScheduler", 12, "euler", 12),
        (VEDiffusion(), "EDMEulerScheduler", 12, "euler", 11),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_a_scheduler_of_diffusers_follows_our_sampler(process, scheduler, steps, sampler, own_steps):
    model = made(process)
    found = sample_with(model, make_scheduler(process, scheduler_class(scheduler)), 3, steps, seed=4)
    if sampler is None:  # cosine: their grid begins at s = 1, ours at 0.996
        expected = ddim_from_one(model, steps)
    else:
        expected = model.sample(3, sampler, own_steps, seed=4).x
    assert expected.std() > 0.1
    assert_close(found, expected.float(), rtol=0, atol=1e-4 * max(1.0, expected.abs().max().item()))


def ddim_from_one(model, steps):
    x, grid = model.noise(range(3), 4), [1 - i / steps for i in range(steps)]
    for s, s_next in zip(grid, [*grid[1:], 0.0], strict=True):
        with torch.no_grad():
            x = ddim_step(model.denoiser, x, s, s_next, SampleNoise(0, [], ())).x
    return x


@pytest.mark.parametrize("scalar", [None, ScalarRange(2, 8, "log")])
def test_a_model_is_the_unet_of_a_pipeline(scalar):
    import diffusers

    conditioning = ConditioningConfig("dpi", schedule=RECIPE.conditioning.schedule, scalar=scalar)
    model = made(VPDiffusion(), conditioning=conditioning)
    scheduler = make_scheduler(model.process, diffusers.DDIMScheduler)
    pipeline = diffusers.DDIMPipeline(unet=DiffusersUNet(model), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    seeded = torch.Generator().manual_seed(5)
    pictures = pipeline(batch_size=2, num_inference_steps=10, generator=seeded, output_type="np").images
    start = torch.randn(2, *RECIPE.shape, generator=torch.Generator().manual_seed(5)).double()
    *_, last = model.sample_states(range(2), "ddim", 10, start=start)
    expected = (last.x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert expected.std() > 0.1
    assert_close(torch.from_numpy(pictures).double(), expected, rtol=0, atol=1e-4)


def test_the_unet_has_what_pipelines_ask_of_it():
    model = made(VPDiffusion())
    unet = DiffusersUNet(model)
    assert (unet.config.in_channels, unet.config.sample_size, unet.dtype) == (1, 8, torch.float32)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        each = unet(x, torch.tensor([99, 499])).sample
        assert_close(each[1:], model.net(x[1:], 0.5), rtol=1e-5, atol=1e-6)
        assert_close(unet(x, 499, return_dict=False)[0][1:], each[1:], rtol=1e-5, atol=1e-6)
    assert DiffusersUNet(model).half().dtype == torch.float16


def test_betas_are_those_of_the_process():
    scheduler = make_scheduler(VPDiffusion(), scheduler_class("DDIMScheduler"))
    t = torch.tensor([0, 123, 999])
    alpha = VPDiffusion().coefficients(scalar_at(VPDiffusion(), t)).alpha
    assert_close(scheduler.alphas_cumprod[t].double(), alpha.square(), rtol=1e-4, atol=1e-9)


def test_what_diffusers_has_no_place_for_is_said():
    with pytest.raises(ValueError, match="AWGN is no process of diffusers' schedulers; use VP, flow matching or EDM"):
        DiffusersUNet(made(AWGN()))
    with pytest.raises(ValueError, match=r"of shape \(1, 8, 6\), but pipelines make square images"):
        DiffusersUNet(made(VPDiffusion(), shape=(1, 8, 6)))
