"""λ(s) against NumPy's interpolation, the paper's table, brute force and closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dpi_core.lambda_schedules import FixedSchedule, Saturation, SoftmaxSchedule, shortest_rise

GRID = torch.linspace(0, 1, 1013, dtype=torch.float64)


def curve(phi: torch.Tensor, **options) -> SoftmaxSchedule:
    schedule = SoftmaxSchedule(len(phi), n_groups=None if phi.ndim == 1 else phi.shape[1], **options)
    schedule.phi.data = phi.clone()
    return schedule


def random_phi(seed: int) -> torch.Tensor:
    """Logits of any length, from nearly equal to so far apart that the softmax underflows."""
    generator = torch.Generator().manual_seed(seed)
    n_knots = int(torch.randint(2, 1500, (), generator=generator))
    return 10 ** (4 * torch.rand((), generator=generator) - 1) * torch.randn(n_knots, generator=generator)


def knots(phi: torch.Tensor) -> np.ndarray:
    """Section 3.2 of the paper in float64: λ(s_i) is the sum of the first probabilities, entry 0 pinned to 0."""
    logits = phi.double().numpy()
    p = np.exp(logits - logits.max())
    table = np.cumsum(p / p.sum())
    table[0] = 0
    return table


EXTREMES = {
    "all on the first": torch.tensor([1e4, 0.0, 0.0, 0.0]),
    "all on the last": torch.tensor([0.0, 0.0, 0.0, 1e4]),
    "all in the middle": torch.tensor([-1e30, 0.0, 1e30, 0.0, -1e30]),
    "two knots": torch.tensor([3.0, -200.0]),
    "steep ramp": torch.linspace(-1e5, 1e5, 1000),
}


@torch.no_grad()
def test_a_softmax_curve_ends_at_0_and_1_to_the_bit_and_never_falls():
    for phi in [random_phi(seed) for seed in range(250)] + list(EXTREMES.values()):
        for rounding in ("linear", "nearest"):
            schedule = curve(phi, rounding=rounding)
            ends = schedule(torch.tensor([0.0, 1.0]))
            assert ends.tolist() == [0.0, 1.0]
            assert schedule(0).item() == 0.0 and schedule(1).item() == 1.0
            assert bool((schedule(GRID).diff() >= -1e-15).all())
            assert bool((schedule.table().diff() >= 0).all())


@torch.no_grad()
@pytest.mark.parametrize("seed", range(8))
def test_between_knots_the_curve_is_linear(seed):
    phi = random_phi(seed)
    expected = np.interp(GRID.numpy(), np.linspace(0, 1, len(phi)), knots(phi))
    assert_close(curve(phi)(GRID).numpy(), expected, rtol=0, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(8))
def test_rounding_to_the_nearest_knot_is_the_papers_table(seed):
    phi = random_phi(seed)
    expected = [knots(phi)[round(s * (len(phi) - 1))] for s in GRID.tolist()]
    assert_close(curve(phi, rounding="nearest")(GRID).numpy(), np.array(expected), rtol=0, atol=1e-9)


def test_equal_logits_are_a_straight_line_up_to_the_pinned_entry():
    n = 1000
    expected = torch.arange(1, n + 1, dtype=torch.float64) / n
    expected[0] = 0
    assert_close(SoftmaxSchedule(n).table().detach(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_values_keep_the_shape_of_s_and_add_an_axis_of_groups(shape):
    phi = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    s = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    grouped = curve(phi)(s)
    columns = [curve(column)(s) for column in phi.T]
    assert_close(grouped, torch.stack(columns, dim=-1), rtol=0, atol=1e-15)


def test_the_curve_passes_gradcheck_in_its_logits_and_in_s():
    schedule = curve(torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double())
    s = torch.tensor([0.05, 0.33, 0.71], dtype=torch.float64, requires_grad=True)

    def values(phi, s):
        return torch.func.functional_call(schedule, {"phi": phi}, (s,))

    assert torch.autograd.gradcheck(values, (schedule.phi, s))


def test_the_first_logits_are_drawn_from_the_generator_given():
    draw = torch.randn(1000, generator=torch.Generator().manual_seed(7))
    schedule = SoftmaxSchedule(init_std=0.5, generator=torch.Generator().manual_seed(7))
    assert_close(schedule.phi.detach(), 0.5 * draw, rtol=0, atol=0)


@pytest.mark.parametrize("n_groups", [None, 2])
def test_a_least_slope_keeps_a_step_from_saturating(n_groups):
    free, bounded = SoftmaxSchedule(101, n_groups=n_groups), SoftmaxSchedule(101, n_groups=n_groups, least_slope=0.4)
    with torch.no_grad():
        for schedule in (free, bounded):
            schedule.phi[50] = 50.0  # all of the rise of the free curve is there
    table, s = bounded.table().detach().reshape(101, -1), torch.linspace(0, 1, 101, dtype=torch.float64)
    assert table[0].eq(0).all() and table[-1].eq(1).all()
    assert table.diff(dim=0).min().item() == pytest.approx(0.4 / 100)
    assert_close(table, 0.6 * free.table().detach().reshape(101, -1) + 0.4 * s[:, None])
    of_free, of_bounded = (each.saturation() for each in (free, bounded))
    if n_groups is not None:
        of_free, of_bounded = of_free[0], of_bounded[0]
    assert of_free.saturated and of_bounded.width == pytest.approx((0.9 - 0.6) / 0.4, abs=0.02)


@pytest.mark.parametrize("s", [-0.1, 1.1, float("nan"), torch.tensor([[0.2], [math.inf]])])
def test_s_outside_the_unit_range_is_refused(s):
    with pytest.raises(ValueError, match=r"is not in \[0, 1\]"):
        SoftmaxSchedule(5)(s)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_knots": 1}, "n_knots is 1, but has to be at least 2"),
        ({"rounding": "cubic"}, "rounding is 'cubic'"),
        ({"init_std": 1.0}, "pass the generator"),
        ({"least_slope": 1.0}, "least_slope is 1, but has to lie in"),
        ({"least_slope": -0.1}, "least_slope is -0.1"),
    ],
)
def test_a_learned_curve_that_cannot_be_is_refused(options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        SoftmaxSchedule(**options)


# Fixed curves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("linear", GRID),
        (0.25, torch.full_like(GRID, 0.25)),
        (1, torch.ones_like(GRID)),
        ([0.0, 0.5, 0.75], torch.from_numpy(np.interp(GRID.numpy(), [0, 0.5, 1], [0, 0.5, 0.75]))),
        (
            lambda s: s**2,
            torch.from_numpy(np.interp(GRID.numpy(), np.linspace(0, 1, 1001), np.linspace(0, 1, 1001) ** 2)),
        ),
    ],
    ids=["linear", "constant", "integer", "table", "function"],
)
def test_a_fixed_curve_is_what_was_given(given, expected):
    schedule = FixedSchedule(given)
    assert list(schedule.parameters()) == []
    assert_close(schedule(GRID), expected, rtol=0, atol=1e-7)


def test_a_fixed_table_can_be_read_at_the_nearest_knot():
    schedule = FixedSchedule([0.0, 0.5, 0.75], rounding="nearest")
    assert schedule(torch.tensor([0.0, 0.2, 0.3, 0.7, 0.8])).tolist() == [0.0, 0.0, 0.5, 0.5, 0.75]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cosine", "the curve is 'cosine'"),
        (1.5, r"λ = 1.5 is not in \[0, 1\]"),
        ([0.0, float("nan")], "λ = nan"),
        (lambda s: s - 0.5, "λ = -0.5"),
        ([0.5], "at least 2 numbers"),
    ],
)
def test_a_fixed_curve_outside_the_unit_range_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        FixedSchedule(given)


@pytest.mark.parametrize(
    "schedule", [SoftmaxSchedule(50), FixedSchedule([0.1, 0.123456789, 0.9])], ids=["softmax", "fixed"]
)
def test_precision_is_kept_when_the_network_is_halved(schedule):
    if isinstance(schedule, SoftmaxSchedule):
        schedule.phi.data.normal_()
    reference = copy.deepcopy(schedule)
    for lower in (schedule.half(), schedule.to(torch.bfloat16)):
        assert_close(lower(GRID), reference(GRID), rtol=0, atol=0)


def test_a_curve_goes_round_through_its_state_dict():
    schedule, other = curve(random_phi(3)), SoftmaxSchedule(len(random_phi(3)))
    other.load_state_dict(schedule.state_dict())
    assert_close(other(GRID), schedule(GRID), rtol=0, atol=0)


# Saturation ------------------------------------------------------------------------------------------------------


def brute_force_width(table: np.ndarray, share: float, n: int = 4000) -> float:
    """The shortest interval between points of a fine grid that holds the share."""
    s = np.linspace(0, 1, n + 1)
    level = np.interp(s, np.linspace(0, 1, len(table)), (table - table[0]) / (table[-1] - table[0]))
    ends = np.searchsorted(level, level + share - 1e-12)
    reached = ends <= n
    return float((s[ends[reached]] - s[reached]).min())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_saturation_is_the_shortest_interval_by_brute_force(seed, share):
    rng = np.random.default_rng(seed)
    table = np.cumsum(rng.exponential(size=rng.integers(3, 40)) ** rng.integers(1, 6))
    found = shortest_rise(table, share)
    assert_close(found.width, brute_force_width(table, share), rtol=0, atol=1e-3)
    low, high = np.interp([found.low, found.high], np.linspace(0, 1, len(table)), table)
    assert (high - low) / (table[-1] - table[0]) == pytest.approx(share, abs=1e-6)


def test_saturation_of_known_curves():
    power = FixedSchedule(lambda s: s**4, n_knots=4001).saturation()
    assert (power.low, power.high) == pytest.approx((0.1**0.25, 1.0), abs=1e-6)
    assert FixedSchedule("linear").saturation().width == pytest.approx(0.9)
    assert FixedSchedule([0.1, 0.8, 0.05, 0.95]).saturation().width == 1.0, (
        "it falls in between, so that no share can be named"
    )
    assert FixedSchedule(0.3).saturation() == Saturation(0.0, 1.0)
    step = FixedSchedule([0.0, 0.0, 1.0, 1.0, 1.0]).saturation()
    assert step.width == pytest.approx(0.9 / 4) and 0.25 <= step.low and step.high <= 0.5 + 1e-9
    assert step.saturated and not power.saturated


def test_saturation_is_given_for_each_group():
    phi = torch.stack([torch.zeros(100), torch.linspace(0, 60, 100)], dim=1)
    straight, steep = curve(phi).saturation()
    assert straight.width == pytest.approx(0.9, abs=0.01)
    # λ rises like exp(60 s): all but a tenth of it within ln(10) / 60 of the end.
    assert steep.width == pytest.approx(math.log(10) * 99 / 100 / 60, rel=0.1) and steep.high == 1.0


@pytest.mark.parametrize("n_groups", [None, 3])
def test_a_lookup_is_the_curve_and_follows_its_changes(n_groups, generator):
    schedule = SoftmaxSchedule(9, n_groups=n_groups, init_std=1.0, generator=generator)
    s = torch.tensor([0.0, 0.13, 0.5, 1.0], dtype=torch.float64)
    for _ in range(2):
        assert_close(schedule.lookup(s), schedule(s).detach(), rtol=0, atol=0)
        with torch.no_grad():
            schedule.phi[2] += 1.0
    schedule.phi = torch.nn.Parameter(torch.randn(schedule.phi.shape, generator=generator))
    assert_close(schedule.lookup(s), schedule(s).detach(), rtol=0, atol=0)
    assert not schedule.lookup(s).requires_grad
