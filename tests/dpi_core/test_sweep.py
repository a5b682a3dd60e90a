"""Sweeps from config to page: identical data for all, paired scores, going on where stopped, numbers that add up."""

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.testing import assert_close

import dpi_core
from dpi_core import checkpoint
from dpi_core.build import RECIPES, SWEEPS, build_denoiser, load_recipe
from dpi_core.classifier import Classifier, ClassifierConfig, features
from dpi_core.cli import main
from dpi_core.conditioning import ConditioningConfig
from dpi_core.config import from_dict
from dpi_core.cost import measure_costs
from dpi_core.data import load_data
from dpi_core.distances import frechet_distance
from dpi_core.evaluation import denoising_errors, psnr
from dpi_core.held_out import read_held_out, samples_at
from dpi_core.judges import Judge
from dpi_core.results import results_page, sweep_section
from dpi_core.sweep import Method, SweepConfig, _against, _at_other_steps, load_sweep, set_distances, sweep
from dpi_core.training import rate_factor
from dpi_core.verdicts import signed, verdict

TINY = SweepConfig(
    "tiny",
    {
        "data": {"kind": "digits"},
        "shape": [1, 8, 8],
        "process": {"kind": "vp"},
        "backbone": {"kind": "drunet", "channels": [4, 8], "blocks": 1},
        "training": {"steps": 6, "batch_size": 16, "warmup_steps": 1, "log_every": 3, "save_every": 3},
        "sampling": {"sampler": "ddim", "steps": 3},
    },
    {
        "dpi": Method(ConditioningConfig("dpi"), start="none"),
        "none": Method(ConditioningConfig("none"), {"learning_rate": 1e-2}),
    },
    seeds=(0, 1),
    judged=12,
    samples=100,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    said = []
    judge = Judge(Classifier(ClassifierConfig(channels=(4, 8))).eval(), "digits", 0.5, 10, 0)
    result = sweep(TINY, load_data(load_recipe_of(TINY).data), folder, judge=judge, say=said.append)
    return folder, result, said, judge


def load_recipe_of(config: SweepConfig):
    return config.runs()[0][2]


def test_the_smoke_sweep_runs_every_method_and_goes_on_without_training_again(tmp_path, capsys):
    runs = ["--runs", str(tmp_path)]
    main(["sweep", "--smoke", *runs])
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    config = load_sweep("smoke")
    assert [row[0].removeprefix("| ") for row in table[2:]] == [*config.methods, "data against data"]
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "smoke").glob("*/*.safetensors")}
    assert len(written) == 3 * len(config.methods) * len(config.seeds)
    before = checkpoint.read_json(tmp_path / "smoke" / "metrics.json")
    (tmp_path / "smoke" / "dpi-1" / "scores.safetensors").unlink()
    main(["sweep", "--smoke", *runs])
    again = {file for file in written if file.stat().st_mtime_ns != written[file]}
    assert {file.parent.name for file in again} == {"dpi-1"}
    after = checkpoint.read_json(tmp_path / "smoke" / "metrics.json")
    assert after["against"] == before["against"]


def test_processes_share_a_sweep_by_naming_their_runs(tmp_path, capsys):
    runs = ["--smoke", "--runs", str(tmp_path)]
    main(["sweep", *runs, "--only", "none-0", "dpi-1"])
    assert {file.parent.name for file in tmp_path.glob("smoke/*/scores.safetensors")} == {"none-0", "dpi-1"}
    assert not (tmp_path / "smoke" / "metrics.json").exists()
    with pytest.raises(SystemExit):
        main(["sweep", *runs, "--only", "dpi-7"])
    assert "has no run dpi-7; name one as METHOD-SEED" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(file.stem for file in SWEEPS.glob("*.json")))
def test_every_sweep_that_ships_can_be_built(name):
    config = load_sweep(name)
    first = {}
    for method, seed, recipe in config.runs():
        if seed == config.seeds[0]:
            first[method] = build_denoiser(recipe)
            named = RECIPES / f"{name}-{method}.json"
            assert named.is_file() or load_recipe(f"{name}-{method}") == recipe
    assert list(first) and set(first) == set(config.methods) and config.name == name


def test_methods_differ_in_what_they_name_alone():
    runs = TINY.runs()
    assert [(name, seed) for name, seed, _ in runs] == [("none", 0), ("dpi", 0), ("none", 1), ("dpi", 1)]
    (_, _, none), (_, _, dpi), *_ = runs
    assert none.training.learning_rate == 1e-2 and dpi.training.learning_rate == 1e-3
    same = dataclasses.replace(
        dpi,
        name=none.name,
        conditioning=none.conditioning,
        training=dataclasses.replace(dpi.training, learning_rate=1e-2),
    )
    assert same == none


def test_scores_are_those_of_the_saved_models_on_identical_noise(tiny):
    folder, result, said, _ = tiny
    data = load_data(load_recipe_of(TINY).data)
    for name in TINY.methods:
        model = dpi_core.load(folder / f"{name}-1")
        errors = denoising_errors(model.denoiser, data.held_out_batch(12, 0))
        mse = np.stack([error for _, error in errors])
        scores = load_file(folder / f"{name}-1" / "scores.safetensors")
        assert np.allclose(scores["mse"], mse, rtol=1e-5) and np.allclose(scores["psnr"], psnr(mse), rtol=1e-5)
        assert scores["ssim"].shape == (17, 12) and -1 <= scores["ssim"].min() < scores["ssim"].max() <= 1
    assert len(said) == 4


def test_a_run_is_a_whole_checkpoint(tiny):
    folder, *_ = tiny
    model = dpi_core.load(folder / "dpi-0")
    assert model.metrics["parameters"] == sum(p.numel() for p in model.net.parameters())
    assert model.metrics["data"]["name"] == "digits" and len(model.metrics["held_out"]["psnr"]) == 17


def test_differences_are_paired_over_samples_and_averaged_over_seeds(tiny):
    folder, result, _, _ = tiny
    scores = {
        name: [load_file(folder / f"{name}-{k}" / "scores.safetensors")["psnr"].astype(np.float64) for k in (0, 1)]
        for name in TINY.methods
    }
    found = result["against"]["none"]["psnr"]
    difference = np.mean(scores["dpi"], axis=0) - np.mean(scores["none"], axis=0)
    assert np.allclose([level["mean"] for level in found["difference"]], difference.mean(axis=1), atol=1e-6)
    assert found["average"]["mean"] == pytest.approx(difference.mean(), abs=1e-6)
    spread = np.std(
        [a.mean(axis=1) - b.mean(axis=1) for a, b in zip(scores["dpi"], scores["none"], strict=True)], axis=0, ddof=1
    )
    assert np.allclose(found["spread"], spread, atol=1e-6)
    assert result["methods"]["dpi"]["scores"]["psnr"]["seeds"] == pytest.approx([each.mean() for each in scores["dpi"]])


def test_a_warm_start_begins_at_the_trained_network_of_its_own_seed(tiny):
    folder, result, _, _ = tiny
    assert [run["start"] for run in result["methods"]["dpi"]["training"]] == ["tiny-none", "tiny-none"]
    assert all("start" not in run for run in result["methods"]["none"]["training"])
    cold = sweep_losses(folder / "none-0")[0]
    assert sweep_losses(folder / "dpi-0")[0] < cold


def sweep_losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_samples_of_images_are_judged_in_the_features_of_the_classifier(tiny):
    folder, result, _, judge = tiny
    model = dpi_core.load(folder / "none-0")
    real = load_data(load_recipe_of(TINY).data).held_out_batch(100, 0)
    seen = [features(judge.classifier, x) for x in (model.sample(100).x, real)]
    expected = frechet_distance(*seen)
    found = result["methods"]["none"]["generation"][0]
    assert found["frechet"] == pytest.approx(expected, rel=1e-3)
    again = dpi_core.load(folder / "none-1").sample(100, seed=1).x
    other = frechet_distance(features(judge.classifier, again), seen[1])
    assert result["methods"]["none"]["generation"][1]["frechet"] == pytest.approx(other, rel=1e-3), "noise of its own"
    assert set(found) == {"frechet", "precision", "recall"} == set(result["floor"])
    assert len(set(result["floor"]["frechet"])) == 20 and max(result["floor"]["frechet"]) < found["frechet"]
    with torch.no_grad():
        assert_close(judge.classifier.logits(seen[1]), judge.classifier(real))
    said = "a classifier that names 50.0 % of 10 held-out images of digits rightly"
    assert said in sweep_section(result)


def test_a_sweep_is_summed_up_again_without_timing_it(tiny, tmp_path, monkeypatch):
    folder, result, _, judge = tiny
    monkeypatch.setattr("dpi_core.sweep.measure_costs", None)  # it would be missed
    again = sweep(TINY, load_data(load_recipe_of(TINY).data), folder, judge=judge, timed=False)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(result))
    (folder / "metrics.json").rename(tmp_path / "metrics.json")
    with pytest.raises(ValueError, match="holds no cost of dpi, none; leave out --untimed once"):
        sweep(TINY, load_data(load_recipe_of(TINY).data), folder, judge=judge, timed=False)
    (tmp_path / "metrics.json").rename(folder / "metrics.json")


def test_another_recipe_in_the_same_folder_is_refused(tiny):
    folder, *_ = tiny
    other = dataclasses.replace(TINY, recipe={**TINY.recipe, "sampling": {"sampler": "ddim", "steps": 4}})
    with pytest.raises(ValueError, match="none-0 holds a model of another recipe; remove it"):
        sweep(other, load_data(load_recipe_of(TINY).data), folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "the sweep 'tiny' needs at least one method and one seed"),
        ({"seeds": []}, "the sweep 'tiny' needs at least one method and one seed"),
        (
            {"methods": {"a": {"conditioning": {"kind": "dpi"}, "start": "b"}}},
            "method 'a' starts from 'b', which is no method",
        ),
        (
            {"methods": {n: {"conditioning": {"kind": "dpi"}, "start": m} for n, m in (("a", "b"), ("b", "a"))}},
            "start from each other in a circle",
        ),
        ({"methods": {"a": {"conditioning": {"kind": "film"}}}}, "sweep.methods.*kind is 'film'"),
        (
            {"methods": {"a": {"conditioning": {"kind": "dpi"}, "training": {"stepz": 3}}}},
            "training has the unknown key 'stepz'",
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(changes, message):
    base = json.loads(json.dumps(dataclasses.asdict(TINY)))
    with pytest.raises(ValueError, match=message):
        from_dict(SweepConfig, base | changes, "sweep")


def test_the_command_needs_one_config(tmp_path, capsys):
    for arguments in ([], ["smoke", "--smoke"], ["nothing"]):
        with pytest.raises(SystemExit):
            main(["sweep", *arguments])
    messages = capsys.readouterr().err
    assert messages.count("give the config of a sweep, or --smoke") == 2
    assert "there is no sweep 'nothing'; give a JSON file or one of " in messages and "smoke" in messages


# The page --------------------------------------------------------------------------------------------------------


def test_the_page_says_what_the_metrics_say(tiny):
    _, result, _, _ = tiny
    page = sweep_section(result)
    average = result["against"]["none"]["psnr"]["average"]
    line = next(line for line in page.splitlines() if line.startswith("- PSNR: "))
    means = "{} dB ({} to {})".format(*(signed(average[key], 2) for key in ("mean", "low", "high")))
    assert f"On average over the levels {means}, from 12 held-out samples and 2 seeds of training" in line
    states = [verdict(d["low"], d["high"]) for d in result["against"]["none"]["psnr"]["difference"]]
    for state, count in Counter(states).items():
        assert len(set(states)) == 1 or re.search(rf"{state}[^(]*\({count}[ )]", line)
    row = next(line for line in page.splitlines() if line.startswith("| dpi |"))
    assert f"{result['methods']['dpi']['cost']['parameters']:,}" in row
    learned = result["methods"]["dpi"]["lambda"][0]
    saturation = learned["saturation"][0]
    assert f"between s = {saturation['low']:.2f} and {saturation['high']:.2f}" in page
    assert (
        f"λ = {learned['lam'][8]:.2f}, {learned['lam'][16]:.2f}, {learned['lam'][24]:.2f} at s = 0.25, 0.5, 0.75"
        in page
    )
    assert learned["s"][8] == 0.25 and learned["s"][24] == 0.75


def test_other_steps_are_read_from_the_scores_that_the_runs_kept(tiny):
    folder, result, _, _ = tiny
    kept = {
        name: [read_held_out(folder / f"{name}-{seed}" / "held_out.jsonl") for seed in (0, 1)] for name in TINY.methods
    }
    assert all([log.step for log in logs] == [3, 6] for runs in kept.values() for logs in runs)
    assert result["equal_time"] == result["equal_steps"] == {}, "dpi began where none ended"

    config = dataclasses.replace(TINY, methods={name: Method(ConditioningConfig(name)) for name in TINY.methods})
    summary = json.loads(json.dumps(result)) | {"config": json.loads(json.dumps(dataclasses.asdict(config)))}
    for name, ms in (("dpi", 3.0), ("none", 2.0)):
        summary["methods"][name]["cost"]["step_ms"] = ms
    found = _at_other_steps(summary, config, kept)
    assert found["equal_steps"] == found["stopped"] == {} and found["equal_time"]["none"]["steps"] == (4, 6)
    assert found["equal_time"]["none"]["difference"]["mean"] == pytest.approx(difference(kept, 4, 6))

    summary["methods"]["dpi"]["training"][0]["steps"] = 3
    stopped = {"dpi": [logs[:1] for logs in kept["dpi"]], "none": kept["none"]}
    found = _at_other_steps(summary, config, stopped)
    assert found["stopped"]["dpi"] == {
        "step": 3,
        "planned": 6,
        "rate": pytest.approx(rate_factor(3, TINY.runs()[0][2].training)),
    }
    assert found["equal_steps"]["none"]["steps"] == (3, 3)
    assert found["equal_steps"]["none"]["difference"]["mean"] == pytest.approx(difference(kept, 3, 3))


def difference(kept, *steps: int) -> float:
    """Mean over seeds, samples and levels of what DPI scores more than the blind network, each at a step of its own."""
    ours, theirs = (
        np.mean([samples_at(logs, step) for logs in kept[name]])
        for name, step in zip(("dpi", "none"), steps, strict=True)
    )
    return float(ours - theirs)


def test_every_pair_is_compared():
    """In a sweep of three methods, those that are not the first are compared with each other."""
    rng = np.random.default_rng(0)
    scores = {name: [{"mse": rng.random((3, 20))}] for name in "abc"}
    found = _against("b", ["c"], scores)["c"]["mse"]["difference"]
    expected = (scores["c"][0]["mse"] - scores["b"][0]["mse"]).mean(axis=1)
    assert [each["mean"] for each in found] == pytest.approx(expected.tolist())


def test_the_report_is_made_of_the_metrics_and_checked_against_them(tiny, tmp_path, monkeypatch, capsys):
    folder, *_ = tiny
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    (tmp_path / "results" / "tiny" / "metrics.json").write_bytes((folder / "metrics.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["report", "--check"])
    main(["report"])
    main(["report", "--check"])
    page = (tmp_path / "RESULTS.md").read_text()
    assert "## tiny" in page and page == results_page(tmp_path / "checkpoints", tmp_path / "results")
    (tmp_path / "RESULTS.md").write_text(page.replace("17 noise levels", "18 noise levels"))
    with pytest.raises(SystemExit):
        main(["report", "--check"])
    assert "RESULTS.md is not what the metrics say; write it anew" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds a metrics.json; run evaluate or sweep first"):
        results_page(tmp_path / "nothing", tmp_path / "nothing")


# Cost ------------------------------------------------------------------------------------------------------------


def test_operations_and_bytes_are_those_counted_by_hand():
    recipe = dataclasses.replace(load_recipe_of(load_sweep("smoke")), training=TINY.runs()[0][2].training)
    recipes = {
        kind: dataclasses.replace(recipe, conditioning=ConditioningConfig(kind))
        for kind in ("none", "input_map", "dpi")
    }
    counted = measure_costs(recipes, rounds=1)
    numbers = 2 * 16 + 16 + 2 * (16 * 16 + 16) + 16 * 2 + 2
    assert counted["none"].parameters == numbers and counted["none"].bytes == 4 * numbers
    assert counted["none"].flops == 2 * (2 * 16 + 2 * 16 * 16 + 16 * 2)
    assert counted["input_map"].flops - counted["none"].flops == 2 * 16
    assert counted["dpi"].parameters == 2 * numbers + 1000 and counted["dpi"].flops == counted["none"].flops
    assert all(cost.forward_ms > 0 and cost.step_ms > 0 for cost in counted.values())


def test_distances_of_points_come_without_a_judge():
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    near, far = set_distances(x, x.flip(0)), set_distances(x, x + 3)
    assert near["sliced_wasserstein"] == 0 and abs(near["energy"]) < 0.01
    assert far["sliced_wasserstein"] == pytest.approx(3, rel=0.05) and far["energy"] > 1
