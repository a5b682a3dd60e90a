"""On a CUDA device: the answers of the CPU, and steps that are replayed train like steps that are launched."""

import copy
import dataclasses

import pytest
import torch
from torch.testing import assert_close

from dpi_core.analysis.denoising import sweep
from dpi_core.backbones import DRUNetConfig, MLPConfig, UNetConfig
from dpi_core.build import Recipe, SamplingConfig, build_denoiser, recipe_from_dict, recipe_to_dict
from dpi_core.conditioning import ConditioningConfig
from dpi_core.data import DataConfig, load_data
from dpi_core.interpolation import DPI
from dpi_core.linearity import Plan
from dpi_core.model import Model
from dpi_core.noise_processes import AWGN, FlowMatching
from dpi_core.parallel import Team
from dpi_core.runs import train_run
from dpi_core.training import TrainingConfig, TrainingState, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")

DEVICE = "cuda:0"
KINDS = ["dpi", "embedding", "input_map", "none", "blind"]
BACKBONES = {
    "unet": (
        UNetConfig(base_channels=8, channel_multipliers=(1, 2), head_channels=8, norm_groups=4),
        "digits",
        FlowMatching(),
    ),
    "mlp": (MLPConfig(width=16, depth=3), "ring_mixture", FlowMatching()),
    "drunet": (DRUNetConfig(channels=(8, 16), blocks=1), "digits", AWGN()),
}


@pytest.fixture(autouse=True)
def _exact_products():
    """No TF32: the CPU has none."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def recipe(backbone="unet", kind="dpi", **training) -> Recipe:
    config, data, process = BACKBONES[backbone]
    found = Recipe(
        name=f"{data}-{backbone}-{kind}",
        data=DataConfig(data),
        shape=(2,) if data == "ring_mixture" else (1, 8, 8),
        process=process,
        backbone=config,
        conditioning=ConditioningConfig(kind=kind),
        training=TrainingConfig(
            **{
                "steps": 12,
                "batch_size": 32,
                "warmup_steps": 2,
                "log_every": 1,
                "save_every": 4,
                "learning_rate": 1e-3,
                **training,
            }
        ),
        sampling=SamplingConfig(steps=4),
    )
    return recipe_from_dict(recipe_to_dict(found))


def trained_like(subject: Recipe, steps: int = 6):
    """A denoiser after some steps on the CPU: its two sets have moved apart."""
    denoiser = build_denoiser(subject)
    list(train(denoiser, load_data(subject.data), dataclasses.replace(subject.training, steps=steps)))
    return denoiser


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_answers_as_on_the_cpu(backbone, kind, generator):
    denoiser = trained_like(recipe(backbone, kind))
    x = torch.randn(6, *recipe(backbone).shape, generator=generator)
    several = torch.tensor([0.3, 0.9, 0.1, 0.3, 0.5, 0.5], dtype=torch.float64)
    expected = [denoiser(x, 0.4), denoiser(x, several)]
    denoiser.to(DEVICE)
    found = [denoiser(x.to(DEVICE), 0.4), denoiser(x.to(DEVICE), several)]
    assert_close([each.cpu() for each in found], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("pays", [True, False], ids=["one pass", "one each"])
def test_scalars_on_the_device_need_no_reading_back_where_they_stand_together(pays, monkeypatch, generator):
    monkeypatch.setattr(Plan, "pays", lambda self, *_: bool(self.meetings) and pays)
    denoiser = trained_like(recipe()).to(DEVICE)
    assert isinstance(denoiser.net, DPI)
    x = torch.randn(6, 1, 8, 8, generator=generator).to(DEVICE)
    s = torch.tensor([0.2, 0.2, 0.7, 0.7, 0.7, 0.9], dtype=torch.float64)
    expected = denoiser.net(x, s)
    on_device = s.to(DEVICE)
    try:
        torch.cuda.set_sync_debug_mode("error")
        with denoiser.net.in_stretches((2, 3, 1)):
            found = denoiser.net(x, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", KINDS)
def test_replayed_steps_train_like_launched_ones(backbone, kind):
    subject = recipe(backbone, kind, steps=16)
    data, logs, ends = load_data(subject.data), {}, {}
    for replays in (False, True):
        denoiser = build_denoiser(subject).to(DEVICE)
        logs[replays] = list(train(denoiser, data, subject.training, team=Team(DEVICE), replays=replays))
        ends[replays] = {name: value.detach().cpu() for name, value in denoiser.named_parameters()}
    assert_close([log.loss for log in logs[True]], [log.loss for log in logs[False]], rtol=2e-3, atol=1e-4)
    assert_close([log.lam for log in logs[True]], [log.lam for log in logs[False]], rtol=1e-3, atol=1e-3)
    assert_close(ends[True], ends[False], rtol=5e-2, atol=2e-3)


def test_a_run_on_the_device_goes_on_where_it_was_killed(tmp_path):
    subject = recipe(steps=16)
    data = load_data(subject.data)
    whole = train_run(subject, data, tmp_path / "whole", Team(DEVICE))
    states: list[TrainingState] = []
    save = lambda state: states.append(copy.deepcopy(state))  # noqa: E731
    run = train(build_denoiser(subject).to(DEVICE), data, subject.training, save, team=Team(DEVICE), replays=True)
    for _ in range(10):
        next(run)
    run.close()
    resumed = build_denoiser(subject).to(DEVICE)
    again = list(train(resumed, data, subject.training, None, states[-1], Team(DEVICE), replays=True))
    assert states[-1].step == 8 and again[-1].loss == pytest.approx(whole.metrics["training"]["final_loss"], rel=1e-2)


def test_a_sweep_and_samples_are_those_of_the_cpu(generator):
    denoiser = trained_like(recipe())
    x0, eps = torch.randn(2, 3, 1, 8, 8, generator=generator)
    on_cpu, model = list(sweep(denoiser, x0, eps, [0.1, 0.5, 0.9])), Model(denoiser, recipe(), {})
    drawn = model.sample(4, seed=3).x
    denoiser.to(DEVICE)
    on_device = list(sweep(denoiser, x0, eps, [0.1, 0.5, 0.9]))
    for one, other in zip(on_device, on_cpu, strict=True):
        assert_close(one.x0_hat.cpu(), other.x0_hat, rtol=1e-3, atol=1e-4)
    assert_close(model.sample(4, seed=3).x.cpu(), drawn, rtol=1e-3, atol=1e-3)
