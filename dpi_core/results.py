"""RESULTS.md, written from `metrics.json` files alone: those of the models that ship, and those of sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpi_core.checkpoint import CONFIG, METRICS, read_json
from dpi_core.verdicts import (
    UNITS,
    comparison_in_words,
    equal_steps_in_words,
    equal_time_in_words,
    goal_in_words,
    judge_in_words,
    main_measure,
    paired_seeds,
    steps_in_words,
    stopped_in_words,
    timed_elsewhere_in_words,
)

HEADER = """# Results

Written by `python -m dpi_core report` from the `metrics.json` files in `checkpoints/` and `results/`; no number is typed
by hand. Intervals hold 95 % of bootstrap draws over samples. Every method of a comparison is judged on identical samples
under identical noise, at 17 noise levels s from 0.05 to 0.95. In paired differences positive is in favour of the first
method; "better" and "worse" mean that the interval leaves out zero, "no clear difference" that it holds it. Of 17 levels about
one leaves it out by chance alone, so that two equal methods pass "worse at no level" only two times in three. These intervals do
not hold what another seed of training changes; it stands beside them.

Distances of samples (energy, sliced Wasserstein, Fréchet) and precision and recall are averages over the seeds, each with noise
of its own, with the lowest and highest of them. "Data against data" is what other draws of data reach against the held-out ones:
their average, the lowest and the highest. A value below that average is luck of the draw.

Methods differ in how s enters the network. `blind` and `rescaling` also differ in what it predicts (x̂0 and ε), and so in
how the loss weighs the levels; the mean squared error of `rescaling` is mostly that of the levels near s = 1, where x̂0 is made of
ε̂ by dividing by a small α. At equal time of training a score between two that a run kept lies on the straight line
between them."""


PUBLISHED = "published"
"""Folder of published numbers, below that of our results."""

SHOWN_S = (0.25, 0.5, 0.75)
"""Where the page gives λ; its curve is stored on an even grid."""


def results_page(checkpoints: Path, results: Path) -> str:
    """The whole page.

    Args:
        checkpoints: folder of models.
        results: folder of sweeps.

    Raises:
        ValueError: neither folder holds a `metrics.json`, or one is no valid JSON.
    """
    sweeps = [read_json(file) for file in sorted(results.glob(f"*/{METRICS}"))]
    models = [(read_json(file.parent / CONFIG), read_json(file)) for file in sorted(checkpoints.glob(f"*/{METRICS}"))]
    if not sweeps and not models:
        raise ValueError(f"neither {checkpoints} nor {results} holds a {METRICS}; run evaluate or sweep first.")
    sections = [HEADER]
    if models:
        sections.append("## Models that ship\n\n" + models_table(models))
        sections += [photos_section(name, models, results / PUBLISHED) for name in _photo_sets(models)]
    sections += [sweep_section(each) for each in sweeps]
    return "\n\n".join(sections) + "\n"


def models_table(models: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """One row for each model: (config, metrics)."""
    rows = [
        [
            config["name"],
            config["conditioning"]["kind"],
            _count(metrics.get("parameters")),
            _average(metrics.get("held_out")),
            _judged(metrics),
        ]
        for config, metrics in models
    ]
    return _table(["model", "conditioning", "parameters", "held-out average", "beyond"], rows)


def photos_section(name: str, models: list[tuple[Mapping[str, Any], Mapping[str, Any]]], published: Path) -> str:
    """Whole photos under white noise: our models that were judged on a set of them, and what others have published.

    Args:
        name: of the set, as `evaluate --record` was told.
        models: (config, metrics) of each.
        published: folder with a `<name>.json` of published numbers, where there are any.
    """
    judged = {
        config["name"]: metrics["images"][name] for config, metrics in models if name in metrics.get("images", {})
    }
    sigmas = sorted({sigma for scores in judged.values() for sigma in scores["sigma"]}, key=float)
    rows = [
        [model, *(_photos_cell(scores["sigma"].get(sigma)) for sigma in sigmas), "measured here"]
        for model, scores in judged.items()
    ]
    file = published / f"{name}.json"
    theirs: dict[str, Any] = read_json(file) if file.is_file() else {"about": "", "rows": []}
    for row in theirs["rows"]:
        rows.append(
            [row["method"], *(f"{row['psnr'][s]:.2f}" if s in row["psnr"] else "" for s in sigmas), row["source"]]
        )
    titles = ["PSNR (dB)", *(f"σ = {sigma} of 255" for sigma in sigmas), "from"]
    opening = f"{theirs['about']} Intervals hold 95 % of bootstrap draws over images.".strip()
    return f"## {name}: whole photos\n\n{opening}\n\n{_table(titles, rows)}"


def _photo_sets(models: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    return sorted({name for _, metrics in models for name in metrics.get("images", {})})


def _photos_cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["ci95"]
    return f"{found['psnr_mean']:.2f} ({low:.2f} to {high:.2f})"


def sweep_section(sweep: Mapping[str, Any]) -> str:
    """A sweep's scores, costs and verdicts."""
    first, *others = sweep["methods"]
    seeds = sweep["config"]["seeds"]
    parts = [
        f"## {sweep['name']}",
        f"{sweep['data']['name']}, {sweep['judged']} held-out samples, {len(seeds)} seed{'s' * (len(seeds) > 1)} for each"
        f" method; costs measured on {sweep['hardware']}.",
        sweep_table(sweep),
        *filter(None, [judge_in_words(sweep)]),
    ]
    if others:
        lines = [line for other in others for line in _verdicts(first, other, sweep)]
        measure = main_measure(sweep)
        goal = goal_in_words(first, measure, {other: sweep["against"][other][measure] for other in others})
        parts += [f"### {first} against the others, {steps_in_words(sweep)}", *stopped_in_words(sweep), goal]
        parts += ["\n".join(lines)]
        same = [f"- {line}." for other in others if (line := equal_steps_in_words(first, other, sweep))]
        parts += [f"### {first} against the others, at equal steps", "\n".join(same)] if same else []
        times = [f"- {equal_time_in_words(first, other, sweep)}." for other in others]
        parts += [f"### {first} against the others, at equal time of training"]
        parts += [*filter(None, [timed_elsewhere_in_words(sweep)]), "\n".join(times)]
    curves = [line for name, method in sweep["methods"].items() for line in _curves(name, method)]
    if curves:
        parts += ["### λ", "\n".join(curves)]
    return "\n\n".join(parts)


def sweep_table(sweep: Mapping[str, Any]) -> str:
    """One row for each method: scores over all levels, sample quality beside its floor, cost."""
    some = next(iter(sweep["methods"].values()))
    measures, distances = list(some["scores"]), list(sweep["floor"])
    titles = [f"{UNITS[measure][0]}{' (dB)' * (measure == 'psnr')}" for measure in measures]
    titles += ["over seeds", *(name.replace("_", " ") for name in distances)]
    titles += ["parameters", "MB", "MFLOP", "ms per forward", "ms per step", "steps", "minutes at that pace"]
    rows = [
        [name, *_scores(method, measures), *_generation(method, distances), *_cost(method)]
        for name, method in sweep["methods"].items()
    ]
    if distances:
        floor = [_mean_and_range(sweep["floor"][name]) for name in distances]
        rows.append(["data against data", *[""] * len(measures), "", *floor, *[""] * 7])
    return _table(["method", *titles], rows)


def _scores(method: Mapping[str, Any], measures: list[str]) -> Iterator[str]:
    for measure in measures:
        yield _interval(method["scores"][measure]["average"], UNITS[measure][2])
    seeds = method["scores"][measures[-1] if "psnr" not in measures else "psnr"]["seeds"]
    digits = UNITS["psnr" if "psnr" in measures else measures[-1]][2]
    yield f"{min(seeds):.{digits}f} to {max(seeds):.{digits}f}" if len(seeds) > 1 else "one seed"


def _generation(method: Mapping[str, Any], distances: list[str]) -> Iterator[str]:
    for name in distances:
        found = [run[name] for run in method["generation"]]
        yield _mean_and_range(found) if found else ""


def _mean_and_range(found: Sequence[float]) -> str:
    return f"{sum(found) / len(found):.4f} ({min(found):.4f} to {max(found):.4f})"


def _cost(method: Mapping[str, Any]) -> list[str]:
    cost, training = method["cost"], method["training"]
    # Not what the runs' clocks say: other work on the machine slows one run and not the other.
    minutes = training[0]["steps"] * cost["step_ms"] / 60_000
    return [
        f"{cost['parameters']:,}",
        f"{cost['bytes'] / 1e6:.3g}",
        f"{cost['flops'] / 1e6:.3g}",
        f"{cost['forward_ms']:.1f}",
        f"{cost['step_ms']:.1f}",
        f"{training[0]['steps']:,}",
        f"{minutes:.1f}",
    ]


def _verdicts(first: str, other: str, sweep: Mapping[str, Any]) -> Iterator[str]:
    for measure, comparison in sweep["against"][other].items():
        seeds = paired_seeds(sweep["methods"][first], sweep["methods"][other], measure)
        samples = f"{sweep['judged']} held-out samples"
        yield f"- {comparison_in_words(first, other, measure, sweep['s'], comparison, samples, seeds)}"


def _curves(name: str, method: Mapping[str, Any]) -> Iterator[str]:
    for run, learned in zip(method["training"], method["lambda"], strict=False):  # only DPI has a λ
        curves = list(zip(*learned["lam"], strict=True)) if isinstance(learned["lam"][0], list) else [learned["lam"]]
        for curve, interval in zip(curves, learned["saturation"], strict=True):
            if min(curve) == max(curve):
                yield f"- {name}, seed {run['seed']}: λ = {curve[0]:.2f} at every s."
                continue
            state = "saturated" if interval["saturated"] else "not saturated"
            shown = ", ".join(f"{curve[round(share * (len(curve) - 1))]:.2f}" for share in SHOWN_S)
            yield (
                f"- {name}, seed {run['seed']}: λ = {shown} at s = {', '.join(map(str, SHOWN_S))}; 90 % of its rise between"
                f" s = {interval['low']:.2f} and {interval['high']:.2f}; {state}."
            )


# Cells -----------------------------------------------------------------------------------------------------------


def _table(titles: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows])


def _interval(interval: Mapping[str, float], digits: int) -> str:
    mean, low, high = (f"{interval[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _average(held_out: Mapping[str, Any] | None) -> str:
    if held_out is None:
        return ""
    if "psnr" in held_out:
        means = [level["mean"] for level in held_out["psnr"]]
        return f"{sum(means) / len(means):.2f} dB"
    return f"mean squared error {sum(held_out['mse']) / len(held_out['mse']):.5f}"


def _pooled(excess: Mapping[str, Any]) -> float:
    """Error beyond the optimum's, over all levels together: at each alone, those where the optimum hardly errs would rule."""
    optimum = excess["optimum_mse"]
    return sum(each * least for each, least in zip(excess["each"], optimum, strict=True)) / sum(optimum)


def _judged(metrics: Mapping[str, Any]) -> str:
    parts = []
    if "excess_over_optimum" in metrics:
        parts.append(f"{100 * _pooled(metrics['excess_over_optimum']):.3g} % above the closed-form optimum's error")
    if "frechet" in metrics.get("generation", {}):
        parts.append(f"Fréchet distance of samples {metrics['generation']['frechet']:.2f}")
    if "recognition" in metrics:
        scores = metrics["recognition"]
        parts.append(
            f"{100 * scores['samples']['frac_confident']:.1f} % of samples recognised, data"
            f" {100 * scores['real_held_out']['frac_confident']:.1f} %"
        )
    return "; ".join(parts)
