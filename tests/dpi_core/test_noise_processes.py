"""Noise processes against diffusers, the papers' formulas, finite differences and their own inverses."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dpi_core.noise_processes import AWGN, PROCESSES, FlowMatching, VEDiffusion, VPDiffusion

KINDS = ("x0", "eps", "score", "velocity", "v")
INSIDE = torch.linspace(1e-3, 1 - 1e-3, 41, dtype=torch.float64)
VARIANTS = {
    "vp linear": VPDiffusion(),
    "vp linear eps": VPDiffusion(prediction="eps"),
    "vp cosine": VPDiffusion("cosine"),
    "vp cosine x0": VPDiffusion("cosine", "x0"),
    "edm": VEDiffusion(),
    "edm narrow": VEDiffusion(sigma_min=0.01, sigma_max=3.0, sigma_data=1.3, rho=2.5),
    "awgn": AWGN(),
    "awgn eps": AWGN(sigma_max=2.0, prediction="eps"),
    "flow": FlowMatching(),
    "flow x0": FlowMatching(prediction="x0"),
}
every_process = pytest.mark.parametrize("process", VARIANTS.values(), ids=VARIANTS.keys())


def column(value: torch.Tensor) -> torch.Tensor:
    return value[:, None]


@pytest.fixture
def clean_and_noise(generator):
    """x0 and ε, one row for each s in `INSIDE`."""
    return torch.randn(2, len(INSIDE), 3, generator=generator, dtype=torch.float64).unbind()


# What they are ---------------------------------------------------------------------------------------------------


def test_linear_vp_is_the_continuous_limit_of_ddpm():
    from diffusers import DDPMScheduler

    n = torch.arange(1, 1001, dtype=torch.float64)
    alpha = VPDiffusion().coefficients(n / 1000).alpha
    # The limit leaves out half the square of every β: log(1 − β) = −β − β²/2 − ..., here summed in closed form.
    beta = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear").betas.double()
    assert_close(2 * alpha.log(), -beta.cumsum(0), rtol=0, atol=0.011)
    alpha_bar = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02).alphas_cumprod.double()
    assert_close(alpha**2, alpha_bar, rtol=0, atol=6e-3)


def test_linear_vp_follows_equation_33_of_song_et_al():
    c = VPDiffusion().coefficients(INSIDE)
    integral = 0.5 * INSIDE**2 * (20 - 0.1) + 0.1 * INSIDE
    assert_close(c.alpha, torch.exp(-0.5 * integral))
    assert_close(c.sigma, torch.sqrt(1 - torch.exp(-integral)))


def test_cosine_vp_is_that_of_diffusers():
    from diffusers import DDPMScheduler

    n = torch.arange(1, 1001, dtype=torch.float64)
    c = VPDiffusion("cosine").coefficients(n / 1000)
    alpha_bar = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    # diffusers caps the last β at 0.999.
    assert_close(c.alpha[:-1] ** 2, alpha_bar[:-1], rtol=2e-4, atol=1e-6)
    assert c.alpha[-1] == 0


def test_cosine_vp_follows_the_formula_of_nichol_and_dhariwal():
    def f(s):
        return torch.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = f(INSIDE) / f(torch.zeros(1, dtype=torch.float64))
    assert_close(VPDiffusion("cosine").coefficients(INSIDE).alpha ** 2, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["edm", "edm narrow"])
def test_edm_levels_and_preconditioning_are_those_of_diffusers(name, generator):
    from diffusers import EDMEulerScheduler

    process = VARIANTS[name]
    keys = ("sigma_min", "sigma_max", "sigma_data", "rho")
    peer = EDMEulerScheduler(**{key: getattr(process, key) for key in keys})
    peer.set_timesteps(21)
    s = torch.linspace(1, 0, 21, dtype=torch.float64)
    assert_close(process.coefficients(s).sigma, peer.sigmas[:-1].double(), rtol=1e-5, atol=0)
    x, output = torch.randn(2, 21, 4, generator=generator, dtype=torch.float64).unbind()
    pre, sigma = process.preconditioning(s), column(process.to_native(s))
    assert_close(column(pre.c_in) * x, peer.precondition_inputs(x, sigma))
    expected = peer.precondition_outputs(x, output, sigma)
    assert_close(column(pre.c_skip) * x + column(pre.c_out) * output, expected)


@pytest.mark.parametrize("name", ["edm", "edm narrow"])
def test_edm_inputs_and_targets_have_unit_variance(name):
    process = VARIANTS[name]
    sigma, data, pre = process.to_native(INSIDE), process.sigma_data, process.preconditioning(INSIDE)
    assert_close(pre.c_in**2 * (data**2 + sigma**2), torch.ones_like(sigma))
    # target = (x0 − c_skip (x0 + σ ε)) / c_out
    target_variance = ((1 - pre.c_skip) ** 2 * data**2 + (pre.c_skip * sigma) ** 2) / pre.c_out**2
    assert_close(target_variance, torch.ones_like(sigma))


def test_flow_is_the_straight_path_and_awgn_grows_linearly():
    flow, awgn = FlowMatching().coefficients(INSIDE), AWGN(sigma_max=0.6).coefficients(INSIDE)
    assert_close((flow.alpha, flow.sigma), (1 - INSIDE, INSIDE))
    assert_close((awgn.alpha, awgn.sigma), (torch.ones_like(INSIDE), 0.6 * INSIDE))


@every_process
def test_derivatives_equal_central_differences(process):
    h = 1e-6
    up, down, c = (process.coefficients(INSIDE + step) for step in (h, -h, 0))
    assert_close(c.d_alpha, (up.alpha - down.alpha) / (2 * h), rtol=1e-6, atol=1e-7)
    assert_close(c.d_sigma, (up.sigma - down.sigma) / (2 * h), rtol=1e-6, atol=1e-7)


@every_process
def test_signal_to_noise_falls_strictly(process):
    c = process.coefficients(torch.linspace(0, 1, 2001, dtype=torch.float64))
    log_snr = 2 * (c.alpha.log() - c.sigma.log())
    assert bool((log_snr[1:] < log_snr[:-1]).all())
    assert c.alpha.dtype == c.sigma.dtype == torch.float64


@pytest.mark.parametrize("name", ["vp linear", "vp cosine"])
def test_vp_preserves_variance(name):
    c = VARIANTS[name].coefficients(torch.linspace(0, 1, 101))
    assert_close(c.alpha**2 + c.sigma**2, torch.ones(101, dtype=torch.float64), rtol=0, atol=1e-15)


@every_process
def test_the_clean_end_is_clean(process):
    c = process.coefficients(0.0)
    assert c.alpha.item() == 1.0
    assert c.sigma.item() == pytest.approx(getattr(process, "sigma_min", 0.0), rel=1e-12, abs=0)


# Conversions -----------------------------------------------------------------------------------------------------


@every_process
def test_conversions_are_mutual_inverses(process, clean_and_noise, generator):
    x_s = process.add_noise(*clean_and_noise, INSIDE)
    exist = {pair for pair in itertools.product(KINDS, KINDS) if process.exists(pair[1], INSIDE, pair[0])}
    kinds = KINDS if isinstance(process, VPDiffusion) else KINDS[:4]
    assert exist == set(itertools.product(kinds, kinds))
    noise = torch.randn(x_s.shape, generator=generator, dtype=torch.float64)
    for given, kind in exist:
        value = process.convert(noise, "eps", given, x_s, INSIDE)
        there = process.convert(value, given, kind, x_s, INSIDE)
        assert_close(process.convert(there, kind, given, x_s, INSIDE), value, rtol=1e-10, atol=1e-10)


@every_process
def test_conversions_give_what_the_quantities_are(process, clean_and_noise):
    x0, eps = clean_and_noise
    x_s, h = process.add_noise(x0, eps, INSIDE), 1e-6
    c = process.coefficients(INSIDE)
    along_the_path = (process.add_noise(x0, eps, INSIDE + h) - process.add_noise(x0, eps, INSIDE - h)) / (2 * h)
    # ∇ log N(x_s; α x0, σ² I)
    score = -(x_s - column(c.alpha) * x0) / column(c.sigma) ** 2
    truth = {"x0": x0, "eps": eps, "score": score, "velocity": along_the_path}
    if isinstance(process, VPDiffusion):
        truth["v"] = column(c.alpha) * eps - column(c.sigma) * x0
    for given, kind in itertools.product(truth, truth):
        if given == "velocity" != kind:
            continue  # the finite difference is only good enough to be compared, not to be converted
        found = process.convert(truth[given], given, kind, x_s, INSIDE)
        assert_close(found, truth[kind], rtol=1e-6, atol=1e-6)


@every_process
def test_the_exact_target_gives_back_the_clean_sample(process, clean_and_noise):
    x0, eps = clean_and_noise
    pre, x_s = process.preconditioning(INSIDE), process.add_noise(x0, eps, INSIDE)
    found = column(pre.c_skip) * x_s + column(pre.c_out) * process.target(x0, eps, INSIDE)
    assert_close(found, x0, rtol=1e-10, atol=1e-10)


@every_process
def test_the_clean_estimate_is_finite_down_to_the_clean_end(process, clean_and_noise):
    x0, eps = (rows[:1] for rows in clean_and_noise)
    pre = process.preconditioning(0.0)
    assert all(math.isfinite(value.item()) for value in (pre.c_skip, pre.c_out, pre.c_in))
    x_s = process.add_noise(x0, eps, 0.0)
    assert_close(pre.c_skip * x_s + pre.c_out * process.target(x0, eps, 0.0), x0, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["vp linear", "vp cosine", "awgn", "flow"])
def test_noise_is_undefined_where_there_is_none(name):
    process, x = VARIANTS[name], torch.ones(1, 2, dtype=torch.float64)
    for given in KINDS[:4]:
        for kind in ("eps", "score"):
            assert not process.exists(kind, 0.0, given)
            with pytest.raises(ValueError, match="undefined at s = 0.0: .*; stay inside"):
                process.convert(x, given, kind, x, 0.0)
    assert not process.exists("velocity", 0.0, "x0")
    assert process.exists("x0", 0.0, "x0")
    assert process.exists("x0", 0.0, "velocity") == (name in ("awgn", "flow"))


@pytest.mark.parametrize("name", ["vp cosine", "flow"])
def test_the_clean_sample_does_not_follow_from_noise_where_there_is_no_signal(name):
    process, x = VARIANTS[name], torch.ones(1, 2, dtype=torch.float64)
    for given, kind in itertools.product(("eps", "score"), ("x0", "velocity")):
        with pytest.raises(ValueError, match="α = 0, so the sample carries nothing of x0"):
            process.convert(x, given, kind, x, 1.0)
    assert_close(process.convert(x, "eps", "score", x, 1.0), -x)
    assert_close(process.convert(x, "x0", "eps", 3 * x, 1.0), 3 * x)
    with pytest.raises(ValueError, match="x0 from eps is undefined at s = 1.0"):
        VPDiffusion("cosine", "eps").preconditioning(1.0)


@pytest.mark.parametrize("name", ["edm", "edm narrow"])
def test_all_but_v_exists_at_both_ends_where_noise_starts_above_zero(name):
    process = VARIANTS[name]
    for s in (0.0, 1.0):
        assert [kind for kind in KINDS if process.exists(kind, s)] == ["x0", "eps", "score", "velocity"]


@pytest.mark.parametrize("name", ["edm", "awgn", "flow"])
def test_v_exists_only_where_variance_is_preserved(name):
    x = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"v needs α² \+ σ² = 1"):
        VARIANTS[name].convert(x, "x0", "v", x, 1e-3)


# Read-outs and configs -------------------------------------------------------------------------------------------


@every_process
def test_the_literatures_time_maps_back(process):
    s = torch.linspace(0, 1, 101, dtype=torch.float64)
    native = process.to_native(s)
    assert_close(process.from_native(native), s, rtol=0, atol=1e-12)
    assert_close(process.to_native(process.from_native(native)), native, rtol=1e-12, atol=1e-12)


@every_process
@pytest.mark.parametrize("s", [0.0, 1e-6, 0.03, 0.4, 0.9, 0.996])
def test_noise_to_signal_and_the_time_of_the_ode_map_back(process, s):
    c = process.coefficients(s)
    assert process.s_at_ratio((c.sigma / c.alpha).item()) == pytest.approx(s, rel=1e-6, abs=1e-12)
    assert process.s_at_ode_time(process.ode_time(s)) == pytest.approx(s, rel=1e-6, abs=1e-12)


@every_process
def test_a_ratio_the_process_never_takes_gives_the_nearest_end(process):
    highest = process.coefficients(process.sampling_range[1])
    beyond = 1e6 * (highest.sigma / highest.alpha.clamp(min=1e-3)).item()
    assert process.s_at_ratio(beyond) == pytest.approx(1, abs=1e-3)
    assert process.s_at_ratio(0.0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_ends_of_any_edm_range_map_back(seed):
    rng = np.random.default_rng(seed)
    low = 10 ** rng.uniform(-4, 0)
    process = VEDiffusion(sigma_min=low, sigma_max=low * 10 ** rng.uniform(0.1, 5), rho=rng.uniform(0.5, 12))
    assert [process.from_native(process.to_native(s)).item() for s in (0.0, 1.0)] == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    ("name", "s", "text"),
    [
        ("vp linear", 0.58, "DDPM step 580"),
        ("edm", 1.0, "σ 80"),
        ("awgn", 1 / 3, "σ 25.0 of 255"),
        ("flow", 0.25, "flow time 0.75"),
    ],
)
def test_a_level_is_described_in_the_words_of_its_literature(name, s, text):
    assert VARIANTS[name].describe(s) == text


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("vp", {"schedule": "quadratic"}, "schedule is 'quadratic'.*'linear', 'cosine'"),
        ("vp", {"prediction": "velocity"}, "prediction is 'velocity'"),
        ("edm", {"prediction": "x0"}, "prediction is 'x0'"),
        ("edm", {"sigma_min": 0.0}, "has to rise from above 0"),
        ("edm", {"sigma_min": 90.0}, "runs from 90 to 80"),
        ("edm", {"sigma_data": -1.0}, "have to be positive"),
        ("awgn", {"sigma_max": 0.0}, "has to be positive"),
        ("flow", {"prediction": "eps"}, "prediction is 'eps'"),
    ],
)
def test_a_process_that_makes_no_sense_is_refused(kind, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        PROCESSES[kind](**options)


@every_process
@pytest.mark.parametrize("s", [-0.01, 1.01, float("nan"), torch.tensor([0.5, 2.0])])
def test_s_outside_the_unit_range_is_refused(process, s):
    with pytest.raises(ValueError, match=r"is not in \[0, 1\]"):
        process.coefficients(s)
