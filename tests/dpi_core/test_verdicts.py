"""Verdicts in words, against sentences worked out by hand."""

import pytest

from dpi_core.verdicts import (
    BETTER,
    EVEN,
    WORSE,
    Stretch,
    comparison_in_words,
    equal_steps_in_words,
    equal_time_in_words,
    goal_in_words,
    paired_seeds,
    steps_in_words,
    stopped_in_words,
    stretches,
    timed_elsewhere_in_words,
    verdict,
    where_in_words,
)

LEVELS = [0.1, 0.2, 0.3, 0.4]


def interval(mean, half=0.05):
    return {"mean": mean, "low": mean - half, "high": mean + half}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.2, BETTER), (-0.2, -0.01, WORSE), (-0.1, 0.1, EVEN), (0.0, 0.1, EVEN), (-0.1, 0.0, EVEN)],
)
def test_only_an_interval_that_leaves_out_zero_is_a_verdict(low, high, word):
    assert verdict(low, high) == word


def test_neighbours_with_one_verdict_are_one_stretch():
    found = stretches(LEVELS, [WORSE, EVEN, EVEN, WORSE])
    assert found == [Stretch(WORSE, 0.1, 0.1, 1), Stretch(EVEN, 0.2, 0.3, 2), Stretch(WORSE, 0.4, 0.4, 1)]
    assert [str(each) for each in found] == ["0.10", "0.20 to 0.30", "0.40"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([BETTER] * 4, "dpi is better than none at all 4 levels"),
        ([WORSE] * 4, "dpi is worse than none at all 4 levels"),
        ([EVEN] * 4, "no clear difference between dpi and none at any of 4 levels"),
        (
            [WORSE, EVEN, BETTER, BETTER],
            "dpi is better than none at s = 0.30 to 0.40 (2 of 4 levels), worse at s = 0.10 (1),"
            " no clear difference at s = 0.20 (1)",
        ),
        (
            [WORSE, EVEN, WORSE, EVEN],
            "dpi is worse than none at s = 0.10 and 0.30 (2 of 4 levels), no clear difference at s = 0.20 and 0.40 (2)",
        ),
    ],
)
def test_where_a_method_wins(words, sentence):
    assert where_in_words("dpi", "none", LEVELS, words) == sentence


def test_the_sentence_holds_the_average_and_what_it_rests_on():
    comparison = {"difference": [interval(each) for each in (-0.1, 0.0, 0.1, 0.2)], "average": interval(0.05, 0.02)}
    found = comparison_in_words("dpi", "none", "psnr", LEVELS, comparison, "36 held-out samples", [0.1, -0.02])
    assert found == (
        "PSNR: dpi is better than none at s = 0.30 to 0.40 (2 of 4 levels), worse at s = 0.10 (1),"
        " no clear difference at s = 0.20 (1)."
        " On average over the levels +0.05 dB (+0.03 to +0.07), from 36 held-out samples and 2 seeds of training (each alone:"
        " −0.02 to +0.10 dB)."
    )
    alone = comparison_in_words("dpi", "none", "psnr", LEVELS, comparison, "36 held-out samples", [0.1])
    assert alone.endswith("and one seed of training, so what another seed changes is not known.")
    assert comparison_in_words("dpi", "none", "mse", LEVELS, comparison, "2 inputs").endswith(
        "(+0.03000 to +0.07000), from 2 inputs."
    )


def test_the_goal_is_worse_nowhere_and_better_on_average():
    def against(*differences, average):
        return {"difference": [interval(each) for each in differences], "average": interval(average)}

    cases = {
        "reached": against(0.0, 0.1, average=0.1),
        "worse": against(-0.1, 0.9, average=0.4),
        "even": against(0.0, 0.1, average=0.01),
    }
    assert goal_in_words("dpi", "psnr", cases) == (
        "By PSNR, dpi is worse at no level and better on average against reached; not so against worse and even."
    )
    assert "worse at some level, or not better on average, against even." in goal_in_words(
        "dpi", "psnr", {"even": cases["even"]}
    )


NAMES = ("dpi", "none")


def sweep(steps=(16000, 16000), starts=(None, None), **more):
    methods = {
        name: {"cost": {"step_ms": ms}, "training": [{"steps": n}]}
        for name, ms, n in zip(NAMES, (30.0, 20.0), steps, strict=True)
    }
    config = {"methods": {name: {"start": start} for name, start in zip(NAMES, starts, strict=True)}}
    return {"methods": methods, "config": config, **more}


def test_unequal_steps_are_not_called_equal():
    assert steps_in_words(sweep((12000, 16000))) == "at unequal steps: none 16,000; dpi 12,000"
    assert steps_in_words(sweep()) == "at equal steps"


def test_the_steps_of_a_network_that_training_started_from_count():
    assert steps_in_words(sweep(starts=("none", None))) == "at unequal steps: dpi 32,000; none 16,000"


def test_where_steps_were_timed_and_where_training_ran_is_said_where_it_differs():
    def at(*trained):
        found = sweep(hardware="a CPU, 1 threads, torch 2")
        for method, hardware in zip(found["methods"].values(), trained, strict=True):
            method["training"][0]["hardware"] = hardware
        return timed_elsewhere_in_words(found)

    assert at("a CPU, 2 threads, torch 1", "a CPU, 1 threads, torch 2") == ""
    sentence = at("a GPU", "a CPU, 1 threads, torch 2")
    assert "that of training on a CPU, on which steps were timed" in sentence and "trained on a GPU, where" in sentence


def test_what_was_not_measured_is_said_to_be_so():
    assert equal_time_in_words("dpi", "none", sweep()) == (
        "not measured against none: a step of dpi takes 1.50 times as long as one of none, and these runs kept no held-out"
        " scores around those steps"
    )


def test_equal_time_names_the_steps_that_are_compared():
    found = {"measure": "psnr", "steps": [2667, 4000], "difference": interval(-0.1), "samples": 64, "levels": 5}
    found["rates"] = [0.27, 0.0]
    sentence = equal_time_in_words("dpi", "none", sweep(equal_time={"none": found}))
    assert sentence.startswith(
        "dpi is worse against none: −0.10 dB (−0.15 to −0.05) in PSNR, on 64 samples at 5 levels;"
    )
    assert "1.50 times as long" in sentence and "dpi is read at step 2,667 and none at step 4,000" in sentence
    assert sentence.endswith(
        ". The learning rate of dpi still stood at 27 % of its peak there, which counts against it"
    )
    found["rates"] = [0.009, 0.0]
    assert equal_time_in_words("dpi", "none", sweep(equal_time={"none": found})).endswith("none at step 4,000")


def test_a_run_that_was_stopped_is_also_read_where_the_others_were_then():
    run = {"step": 12000, "planned": 16000, "rate": 0.148}
    assert stopped_in_words({"stopped": {"dpi": run}}) == [
        "dpi was stopped at step 12,000 of 16,000, where its learning rate stood at 15 % of its peak, which counts against it."
    ]
    found = {"measure": "psnr", "steps": [12000, 12000], "difference": interval(0.1), "samples": 64, "levels": 5}
    assert equal_steps_in_words("dpi", "none", {"equal_steps": {"none": found}}) == (
        "dpi is better against none: +0.10 dB (+0.05 to +0.15) in PSNR, on 64 samples at 5 levels; both are read at step 12,000"
    )
    assert not stopped_in_words({}) and not equal_steps_in_words("dpi", "none", {})


def test_differences_of_errors_are_turned_so_that_less_is_better():
    first, other = (
        {"scores": {measure: {"seeds": seeds} for measure in ("psnr", "mse")}}
        for seeds in ([3.0, 5.0, 9.0], [1.0, 6.0])
    )
    assert paired_seeds(first, other, "psnr") == [2.0, -1.0]
    assert paired_seeds(first, other, "mse") == [-2.0, 1.0]
