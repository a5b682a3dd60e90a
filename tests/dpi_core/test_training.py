"""Training: repeatable to the bit, resumable, and equal to hand computations of each of its parts."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dpi_core.checkpoint import load_training_state, save_training_state
from dpi_core.conditioning import Blind
from dpi_core.data import DistributionData
from dpi_core.denoiser import Denoiser
from dpi_core.evaluation import excess_over_optimum
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import SoftmaxSchedule
from dpi_core.mixtures import ring_mixture
from dpi_core.noise_processes import PROCESSES, FlowMatching
from dpi_core.seeds import seeded_generator
from dpi_core.training import (
    EMA,
    TrainingConfig,
    denoising_loss,
    parameter_groups,
    rate_factor,
    stratified_scalars,
    train,
)

RING = DistributionData(ring_mixture(), "ring")
SHORT = TrainingConfig(steps=12, batch_size=16, scalars_per_batch=4, warmup_steps=3, log_every=1, save_every=4)
exactly = {"rtol": 0, "atol": 0}


def denoiser(kind: str = "dpi", width: int = 12, process=None) -> Denoiser:
    torch.manual_seed(0)
    norm = [nn.BatchNorm1d(width)] if kind == "buffers" else []
    backbone = nn.Sequential(nn.Linear(2, width), *norm, nn.SiLU(), nn.Linear(width, 2))
    net = Blind(backbone) if kind == "none" else DPI(backbone, SoftmaxSchedule(9))
    return Denoiser(net, process or FlowMatching())


def changed(config: TrainingConfig = SHORT, **changes) -> TrainingConfig:
    return dataclasses.replace(config, **changes)


def losses(*arguments, **options) -> list[float]:
    return [log.loss for log in train(*arguments, **options)]


# The run as a whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dpi", "none", "buffers"])
def test_a_run_that_was_killed_goes_on_to_the_same_losses_and_weights(kind, tmp_path):
    config = changed(scalars_per_batch=1) if kind == "buffers" else SHORT
    file, whole, killed, resumed = tmp_path / "run" / "state.safetensors", *(denoiser(kind) for _ in range(3))
    expected = losses(whole, RING, config)

    run = train(killed, RING, config, save=lambda state: save_training_state(file, state))
    before = [next(run).loss for _ in range(10)]
    run.close()
    state = load_training_state(file)
    assert state.step == 8 and before == expected[:10]

    resumed.load_state_dict({name: value + 1 for name, value in resumed.state_dict().items()})
    assert losses(resumed, RING, config, resume=state) == expected[8:]
    assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), **exactly)


def test_a_run_that_was_stopped_between_two_logs_logs_what_it_would_have():
    config, states = changed(log_every=4, save_every=3), []
    expected = losses(denoiser(), RING, config, save=states.append)
    for state in states[:-1]:
        assert losses(denoiser(), RING, config, resume=state) == expected[state.step // 4 :]
    assert "log.losses" in states[0].tensors and "log.losses" not in states[3].tensors  # after 3 and after 12 steps


def test_a_state_stays_what_it_was_while_training_goes_on():
    whole, resumed, states = denoiser(), denoiser(), []
    expected = losses(whole, RING, SHORT, save=states.append)
    assert len(states) > 1
    assert losses(resumed, RING, SHORT, resume=states[0]) == expected[states[0].step :]
    assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), **exactly)


def test_what_a_network_draws_comes_from_seed_and_step():
    def subject():
        found = denoiser()
        found.net.backbone.append(nn.Dropout(0.3))
        return found

    first, second, states = subject(), subject(), []
    ours = torch.get_rng_state()
    expected = losses(first, RING, SHORT, save=states.append)
    assert torch.equal(torch.get_rng_state(), ours)
    torch.manual_seed(7)
    assert losses(second, RING, SHORT) == expected != losses(subject(), RING, changed(seed=SHORT.seed + 1))
    assert losses(subject(), RING, SHORT, resume=states[0]) == expected[states[0].step :]


@pytest.mark.parametrize(("n", "n_distinct"), [(64, 8), (10, 8), (64, 48), (7, 7)])
def test_scalars_are_uniform_whatever_the_batch_holds(n, n_distinct):
    rounds = 2000
    drawn = torch.stack([stratified_scalars(n, n_distinct, seeded_generator(0, i)) for i in range(rounds)])
    shares = torch.histc(drawn.float(), n_distinct, 0, 1) * n_distinct / drawn.numel()
    assert_close(shares, torch.ones(n_distinct), rtol=0, atol=5 * (n_distinct / (rounds * n)) ** 0.5)
    assert all(len(row.unique()) == n_distinct for row in drawn[:20])


def test_a_state_of_another_network_is_refused():
    states = []
    losses(denoiser(width=12), RING, SHORT, save=states.append)
    for other in (denoiser(width=13), denoiser("none")):
        with pytest.raises(ValueError, match="belongs to another recipe; remove it to start again"):
            losses(other, RING, SHORT, resume=states[-1])


def test_the_seed_decides_everything():
    assert losses(denoiser(), RING, SHORT) == losses(denoiser(), RING, SHORT)
    assert losses(denoiser(), RING, changed(seed=1)) != losses(denoiser(), RING, SHORT)


def test_dpi_and_the_blind_network_see_the_same_data_noise_and_scalars():
    # Both sets start equal, so without learning the two networks are one and any difference would lie in what they see.
    frozen = changed(learning_rate=0.0, phi_learning_rate=0.0)
    assert_close(losses(denoiser("dpi"), RING, frozen), losses(denoiser("none"), RING, frozen), rtol=1e-5, atol=0)


def test_training_comes_closer_to_the_optimal_denoiser():
    trained = denoiser(width=48)
    fresh = RING.held_out_batch(500, seed=0).double()
    before = excess_over_optimum(trained, ring_mixture(), fresh)[0].mean()
    logs = list(
        train(
            trained, RING, TrainingConfig(300, 128, warmup_steps=20, learning_rate=5e-3, ema_decay=0.98, log_every=10)
        )
    )
    assert logs[-1].loss < 0.8 * logs[0].loss
    assert excess_over_optimum(trained, ring_mixture(), fresh)[0].mean() < before / 2
    assert max(abs(a - b) for a, b in zip(logs[-1].lam, logs[0].lam, strict=True)) > 0.01


def test_logs_come_at_their_steps_with_mean_losses_and_the_curve():
    every, each = list(train(denoiser(), RING, changed(log_every=5))), losses(denoiser(), RING, SHORT)
    assert [log.step for log in every] == [5, 10, 12]
    means = [sum(part) / len(part) for part in (each[:5], each[5:10], each[10:])]
    assert_close([log.loss for log in every], means, rtol=1e-6, atol=0)
    for log in every:
        assert log.lam[0] == 0 and log.lam[-1] == 1 and list(log.lam) == sorted(log.lam)
        assert 0.5 < log.saturation < 1
    blind = next(train(denoiser("none"), RING, SHORT))
    assert blind.lam is None and blind.saturation is None


def test_states_are_saved_at_their_steps_and_at_the_end():
    steps = []
    losses(denoiser(), RING, changed(save_every=5), save=lambda state: steps.append(state.step))
    assert steps == [5, 10, 12]


class Broken:
    def batch(self, n, generator):
        return torch.full((n, 2), math.inf)


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1; lower training.learning_rate"):
        losses(denoiser(), Broken(), SHORT)


@pytest.mark.parametrize("parts", [2, 3, 16])
@pytest.mark.parametrize("kind", ["dpi", "none"])
def test_a_batch_in_parts_takes_the_same_steps(kind, parts):
    whole, divided = denoiser(kind), denoiser(kind)
    expected = losses(whole, RING, SHORT)
    assert_close(losses(divided, RING, changed(accumulate=parts)), expected, rtol=1e-5, atol=0)
    assert_close(dict(divided.state_dict()), dict(whole.state_dict()), rtol=1e-3, atol=1e-5)


def test_more_parts_than_samples_are_refused():
    with pytest.raises(ValueError, match="a batch of 16 cannot be divided over 1 processes and 17 parts each"):
        losses(denoiser(), RING, changed(accumulate=17))


def test_half_precision_keeps_full_weights_and_nearly_the_losses():
    half, full = denoiser(width=32), denoiser(width=32)
    found = losses(half, RING, changed(precision="bfloat16"))
    assert_close(found, losses(full, RING, SHORT), rtol=0.02, atol=0)
    assert {p.dtype for p in half.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_trains(name, generator):
    trained = denoiser(process=PROCESSES[name](), width=24)
    x0, eps = RING.batch(512, generator), torch.randn(512, 2, generator=generator)
    s = stratified_scalars(512, 16, generator)
    with torch.no_grad():
        before = denoising_loss(trained, x0, eps, s)
    losses(trained, RING, TrainingConfig(80, learning_rate=1e-2, warmup_steps=5, ema_decay=0.9))
    assert denoising_loss(trained, x0, eps, s) < 0.96 * before
    assert not trained.training


# Its parts -------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_error_of_the_velocity():
    subject = denoiser()
    subject.net.separate(0.5, torch.Generator().manual_seed(0))
    x0, eps = torch.randn(2, 6, 2)
    s = torch.tensor([0.1, 0.1, 0.5, 0.5, 0.9, 0.9])
    x_s = (1 - s[:, None]) * x0 + s[:, None] * eps
    outputs = torch.cat([subject.net.materialize(v)(x) for v, x in zip((0.1, 0.5, 0.9), x_s.split(2), strict=True)])
    assert_close(denoising_loss(subject, x0, eps, s), ((outputs - (eps - x0)) ** 2).mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("n", "n_distinct"), [(64, 8), (10, 3), (5, 5), (7, 1)])
def test_scalars_are_stratified_over_the_unit_range(n, n_distinct, generator):
    for _ in range(20):
        s = stratified_scalars(n, n_distinct, generator)
        values, counts = s.unique(return_counts=True)
        assert (values * n_distinct).floor().tolist() == list(range(n_distinct))
        assert counts.sum() == n and counts.max() - counts.min() <= 1
        assert s.dtype == torch.float64


def test_scalars_are_uniform_over_many_batches(generator):
    s = torch.cat([stratified_scalars(8, 4, generator) for _ in range(2000)])
    assert_close(s.sort().values, torch.linspace(0, 1, len(s), dtype=torch.float64), rtol=0, atol=0.01)


def test_the_curve_has_a_group_of_its_own_without_weight_decay():
    subject = denoiser()
    network, phi = parameter_groups(subject, changed(weight_decay=0.1, learning_rate=1e-4, phi_learning_rate=1e-2))
    assert [id(p) for p in phi["params"]] == [id(subject.net.schedule.phi)]
    assert {id(p) for p in network["params"]} == {id(subject.net.flat0), id(subject.net.flat1)}
    assert (network["weight_decay"], network["lr"]) == (0.1, 1e-4)
    assert (phi["weight_decay"], phi["lr"]) == (0.0, 1e-2)
    (only,) = parameter_groups(denoiser("none"), SHORT)
    assert len(only["params"]) == 4


def test_weights_decay_and_the_curve_does_not():
    subject = denoiser()
    subject.net.schedule.phi.data.fill_(3.0)
    before = subject.net.flat0.detach().clone()

    class Silent:
        def batch(self, n, generator):
            return torch.zeros(n, 2)

    config = changed(steps=1, warmup_steps=1, weight_decay=0.5, learning_rate=1e-2, clip_norm=1e-30, ema_decay=0.0)
    losses(subject, Silent(), config)
    assert_close(subject.net.flat0.detach(), (1 - 0.5 * 1e-2) * before, rtol=1e-5, atol=1e-7)
    assert_close(subject.net.schedule.phi.detach(), torch.full((9,), 3.0), **exactly)


def test_the_saved_weights_are_the_average_computed_by_hand():
    subject, states = denoiser(), []
    average = {name: value.detach().clone() for name, value in subject.named_parameters()}

    def keep(state):
        states.append({name: value.clone() for name, value in state.tensors.items()})

    losses(subject, RING, changed(save_every=1, ema_decay=0.4), save=keep)
    assert len(states) == 12
    for step, state in enumerate(states):
        decay = min(0.4, (1 + step) / (10 + step))
        average = {name: decay * value + (1 - decay) * state[f"model.{name}"] for name, value in average.items()}
        assert_close({name: state[f"ema.{name}"] for name in average}, average, rtol=1e-5, atol=1e-6)
    assert_close(dict(subject.named_parameters()), average, rtol=1e-5, atol=1e-6)


def test_the_average_of_a_module_that_rests_is_the_module():
    layer = nn.Linear(3, 2)
    ema, other = EMA(layer, 0.9), nn.Linear(3, 2)
    for step in range(5):
        ema.update(layer, step)
    ema.copy_to(other)
    assert_close(dict(other.state_dict()), dict(layer.state_dict()), **exactly)


def test_gradients_are_clipped_over_all_parameters_together():
    states = []
    (log,) = train(denoiser(), RING, changed(steps=1, clip_norm=1e-3), save=states.append)
    moments = [value.flatten() for name, value in states[0].tensors.items() if name.endswith("exp_avg")]
    assert len(moments) == 3 and log.grad_norm > 0.1
    # After one step Adam's first moment is a tenth of the clipped gradient.
    assert_close(torch.cat(moments).norm().item(), 1e-4, rtol=1e-3, atol=0)


def test_each_set_may_be_clipped_alone():
    states = []
    train_each = changed(steps=1, clip_norm=1e-3, clip="each")
    (log,) = train(denoiser(), RING, train_each, save=states.append)
    (log_all,) = train(denoiser(), RING, changed(steps=1, clip_norm=1e-3))
    assert log.grad_norm == pytest.approx(log_all.grad_norm), "the norm that is logged is that of all"
    moments = {name: value for name, value in states[0].tensors.items() if name.endswith("exp_avg")}
    sets = [value for value in moments.values() if value.numel() > 9]
    assert len(sets) == 2 and len(moments) == 3
    for moment in sets:
        assert_close(moment.norm().item(), 1e-4, rtol=1e-3, atol=0)


def test_clipping_each_is_clipping_all_where_there_is_one_set():
    runs = [losses(denoiser("none"), RING, changed(clip_norm=1e-3, clip=clip)) for clip in ("all", "each")]
    assert runs[0] == runs[1]


def test_the_rate_warms_up_and_decays_like_a_cosine():
    config = changed(steps=110, warmup_steps=10)
    factors = [rate_factor(step, config) for step in range(111)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    expected = [0.5 + 0.5 * math.cos(math.pi * i / 100) for i in range(101)]
    assert factors[10:] == pytest.approx(expected, abs=1e-12)
    assert rate_factor(0, changed(steps=3, warmup_steps=0)) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "training.steps is 0, but has to be at least 1"),
        ({"batch_size": -1}, "training.batch_size is -1"),
        ({"log_every": 0}, "training.log_every is 0"),
        ({"save_every": 0}, "training.save_every is 0"),
        (
            {"scalars_per_batch": 17},
            "training.scalars_per_batch is 17, but has to be at most training.batch_size, which is 16",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        changed(**changes)


def test_steps_draw_from_streams_of_their_own():
    seen = []

    class Recorded:
        def batch(self, n, generator):
            seen.append(RING.batch(n, generator))
            return seen[-1]

    losses(denoiser(), Recorded(), SHORT)
    assert all((a - b).abs().max() > 0 for a, b in itertools.combinations(seen, 2))
