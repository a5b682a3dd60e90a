"""What methods are compared by: the scores of a sweep, of checkpoints, or computed for the page's inputs; and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from app.figures.chart import SERIES
from app.figures.reproduce import clean_line, data_imports, load_line
from app.records import Comparison, ComparisonRequest, Inputs, Measure, Scores, StoredModel, SweepResult
from dpi_core.judged import JUDGED, psnr
from dpi_core.verdicts import (
    comparison_in_words,
    equal_steps_in_words,
    equal_time_in_words,
    goal_in_words,
    main_measure,
)

METHODS = ("dpi", "embedding", "input_map", "none", "blind", "rescaling")
"""Their order decides the colours: a method has one in every figure."""

MORE_COLOURS = ("#A6761D", "#B3446C", "#5C8A3A", "#3C9AA8", "#C48BD0", "#D9795D", "#6B6FA8", "#B5A642", "#2E7F5F")
"""For sweeps of many other methods."""


def colour_of(method: str, methods: Sequence[str]) -> str:
    """Of a method, the same on every figure; those beyond the families take the next free ones."""
    known = dict(zip(METHODS, SERIES, strict=False))
    if method in known:
        return known[method]
    taken = [known[name] for name in methods if name in known]
    free = [colour for colour in (*SERIES, *MORE_COLOURS) if colour not in taken]
    return free[[name for name in methods if name not in known].index(method) % len(free)]


def method_of(model: StoredModel) -> str:
    """A model's name without its family's."""
    return model.name.removeprefix(f"{model.family}-")


def measures_of(sweep: Mapping[str, Any]) -> list[Measure]:
    """What a sweep's methods can be compared by, the main one first."""
    measures: list[Measure] = list(next(iter(sweep["methods"].values()))["scores"])
    return sorted(measures, key=lambda measure: measure != main_measure(sweep))


def comparison_of_sweep(sweep: Mapping[str, Any], measure: Measure) -> Comparison:
    """The stored scores of a sweep: of each method, and the differences of every pair that is stored."""
    names, levels = tuple(sweep["methods"]), np.array(sweep["s"])
    count, scores = len(names), [sweep["methods"][name]["scores"][measure] for name in names]
    difference, average = np.full((count, count, len(levels), 3), np.nan), np.full((count, count, 3), np.nan)
    pairs = {names[0]: sweep["against"], **sweep.get("between", {})}
    for first, others in pairs.items():
        for other, found in others.items():
            a, b = names.index(first), names.index(other)
            difference[a, b] = [_row(interval) for interval in found[measure]["difference"]]
            average[a, b] = _row(found[measure]["average"])
            difference[b, a], average[b, a] = (-each[..., [0, 2, 1]] for each in (difference[a, b], average[a, b]))
    for i in range(count):
        difference[i, i], average[i, i] = 0.0, 0.0
    score = np.array([[_row(interval) for interval in each["each"]] for each in scores])
    seeds = tuple(tuple(each["seeds"]) for each in scores)
    found = Scores(measure, levels, score, difference, average)
    return Comparison(names, found, f"{sweep['judged']} held-out samples", seeds, sweep_lines(sweep, measure))


def scored_alike(family: Sequence[StoredModel]) -> list[StoredModel]:
    """The models with scores of their own at the noise levels of the first that has some."""
    levels = [model.metrics["held_out"]["s"] for model in family if "held_out" in model.metrics]
    return [model for model in family if model.metrics.get("held_out", {}).get("s") in levels[:1]]


def comparison_of_models(family: Sequence[StoredModel]) -> Comparison | None:
    """What the checkpoints' own scores allow: a curve of each, and no paired differences; None without any.

    Models that were scored at other noise levels than the first are left out; `missing` names them.
    """
    measured = scored_alike(family)
    if not measured:
        return None
    measure: Measure = "psnr" if measured[0].is_image else "mse"
    held_out = measured[0].metrics["held_out"]
    levels, count = np.array(held_out["s"]), len(measured)
    rows = np.array([[_row(level) for level in model.metrics["held_out"][measure]] for model in measured])
    unknown = (np.full((count, count, *shape), np.nan) for shape in ((len(levels), 3), (3,)))
    lines = [
        "import dpi_core",
        "",
        f"models = {_load_from(measured)}",
        f'score = {{name: dpi_core.load(path).metrics["held_out"]["{measure}"] for name, path in models.items()}}',
    ]
    found = Scores(measure, levels, rows, *unknown)
    samples = f"{held_out['n']} held-out samples"
    return Comparison(tuple(map(method_of, measured)), found, samples, (), "\n".join(lines))


def comparison_of_request(family: Sequence[StoredModel], request: ComparisonRequest, scores: Scores) -> Comparison:
    """What was computed for this page's inputs."""
    inputs = request.inputs
    samples = inputs.upload_in_words if inputs.kind == "upload" else f"{inputs.n} inputs ({inputs.kind})"
    return Comparison(
        tuple(map(method_of, family)), scores, samples, (), _request_lines(family, request, scores.measure)
    )


def _row(interval: Any) -> tuple[float, float, float]:
    """(mean, low, high); of a number without an interval the mean alone."""
    if isinstance(interval, Mapping):
        return interval["mean"], interval["low"], interval["high"]
    return float(interval), np.nan, np.nan


def sweep_lines(sweep: Mapping[str, Any], measure: Measure) -> str:
    """Python that reads the scores of a sweep."""
    first, *others = sweep["methods"]
    lines = [
        "import json",
        "from pathlib import Path",
        "",
        f"# written by python -m dpi_core sweep {sweep['name']}",
        f'sweep = json.loads(Path("results", "{sweep["name"]}", "metrics.json").read_text())',
        f'score = {{name: method["scores"]["{measure}"]["each"] for name, method in sweep["methods"].items()}}',
    ]
    if others:
        lines.append(f'difference = sweep["against"]["{others[0]}"]["{measure}"]["difference"]  # {first} against it')
    return "\n".join(lines)


def _request_lines(family: Sequence[StoredModel], request: ComparisonRequest, measure: Measure) -> str:
    inputs, first, (low, high) = request.inputs, family[0], JUDGED
    score = "psnr(np.stack(errors))" if measure == "psnr" else "-np.stack(errors)"
    names = [model.name for model in family]
    imports = [
        "import numpy as np",
        "from dpi_core.analysis.denoising import sweep",
        f"from dpi_core.evaluation import compare{', psnr' * (measure == 'psnr')}",
    ]
    return "\n".join(
        [
            *imports,
            *_inputs_lines(first, inputs, request.device),
            f"levels = [s for s in np.linspace(0, 1, {len(request.s_grid)}).tolist() if {low} <= round(s, 9) <= {high}]",
            "score = {}",
            *_each_model(family, request.device),
            "    frames = sweep(model.denoiser, x0, eps, levels)",
            "    errors = [(frame.x0_hat - x0).square().flatten(1).mean(1).double().numpy() for frame in frames]",
            f"    score[name] = {score}",
            *([f'found = compare(score["{names[0]}"][None], score["{names[1]}"][None])'] if len(names) > 1 else []),
        ]
    )


def rows_lines(models: Sequence[StoredModel], inputs: Inputs, s: float, count: int, device: str) -> str:
    """Python that computes x̂0 of the rows.

    Args:
        models: of the rows.
        inputs: whose first ones are shown.
        s: the noise level.
        count: how many are shown.
        device: where to compute.
    """
    return "\n".join(
        [
            *_inputs_lines(models[0], inputs, device),
            f"s, x0_hat = {s:.6g}, {{}}",
            *_each_model(models, device),
            f"    x0_hat[name] = model.denoise(model.process.add_noise(x0, eps, s), s)[:{count}]",
        ]
    )


def _inputs_lines(first: StoredModel, inputs: Inputs, device: str) -> list[str]:
    """The lines that make `x0` and `eps`."""
    return [
        "import dpi_core",
        "import torch",
        *data_imports(inputs),
        "from dpi_core.seeds import seeded_generator",
        "",
        load_line(first, device),
        clean_line(first, inputs),
        f"eps = torch.randn(x0.shape, generator=seeded_generator({inputs.seed}))",
    ]


def _each_model(models: Sequence[StoredModel], device: str) -> list[str]:
    on_device = "" if device == "cpu" else f', device="{device}"'
    return [f"for name, path in {_load_from(models)}.items():", f"    model = dpi_core.load(path{on_device})"]


def _load_from(models: Sequence[StoredModel]) -> dict[str, str]:
    """Model -> what `dpi_core.load` is given."""
    return {model.name: model.source.load_from for model in models}


# Verdicts ---------------------------------------------------------------------------------------------------------


def headline(comparison: Comparison, reference: str) -> str:
    """Whether the reference is as good as every other method everywhere, in a sentence; "" without paired differences."""
    against = _against(comparison, reference)
    if not against:
        return ""
    seeds = len(comparison.seeds[0]) if comparison.seeds else 1
    basis = f"From {comparison.samples} and {seeds} seed{'s' * (seeds > 1)} of training."
    return f"{goal_in_words(reference, comparison.scores.measure, against)} {basis}"


def verdicts(comparison: Comparison, reference: str) -> list[str]:
    """Two sentences for each other method whose differences are known, in the words of RESULTS.md."""
    names, scores, levels = comparison.names, comparison.scores, comparison.scores.s.tolist()
    a = names.index(reference)
    return [
        comparison_in_words(
            reference,
            other,
            scores.measure,
            levels,
            found,
            comparison.samples,
            _paired_seeds(comparison, a, names.index(other)),
        )
        for other, found in _against(comparison, reference).items()
    ]


def _against(comparison: Comparison, reference: str) -> dict[str, dict[str, Any]]:
    """Other method -> the reference's intervals against it, where they are known."""
    scores, a = comparison.scores, comparison.names.index(reference)
    return {
        other: {"difference": list(map(_interval, scores.difference[a, b])), "average": _interval(scores.average[a, b])}
        for b, other in enumerate(comparison.names)
        if b != a and np.isfinite(scores.average[a, b]).all()
    }


def _interval(row: np.ndarray) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), row.tolist(), strict=True))


def _paired_seeds(comparison: Comparison, a: int, b: int) -> list[float]:
    if not comparison.seeds:
        return []
    sign = -1 if comparison.scores.measure == "mse" else 1
    return [sign * (ours - theirs) for ours, theirs in zip(comparison.seeds[a], comparison.seeds[b], strict=False)]


def equal_time(sweep: Mapping[str, Any]) -> list[str]:
    """A sentence for each method that the first one is held against, in the words of RESULTS.md."""
    first, *others = sweep["methods"]
    return _sentences(equal_time_in_words(first, other, sweep) for other in others)


def equal_steps(sweep: Mapping[str, Any]) -> list[str]:
    """The same after equally many steps, of methods that did not take as many."""
    first, *others = sweep["methods"]
    return _sentences(line for other in others if (line := equal_steps_in_words(first, other, sweep)))


def _sentences(lines: Iterable[str]) -> list[str]:
    return [f"{line[:1].upper()}{line[1:]}." for line in lines]


# Models side by side ----------------------------------------------------------------------------------------------


def same_inputs(one: SweepResult, other: SweepResult) -> bool:
    """Whether two sweeps show the same inputs under the same noise at the same levels."""
    pairs = ((one.s, other.s), (one.clean, other.clean), (one.noise, other.noise))
    return all(a.shape == b.shape and np.array_equal(a, b) for a, b in pairs)


def frame_values(model: StoredModel, sweep: SweepResult, count: int) -> tuple[str, ...]:
    """For each frame how good x̂0 is, over the inputs shown, in words."""
    mse = sweep.mse[:, :count]
    if not model.is_image:
        return tuple(f"MSE {value:.3g}" for value in mse.mean(axis=1))
    return tuple(f"PSNR {value:.1f} dB" for value in psnr(mse).mean(axis=1))


def unlike(models: Sequence[StoredModel]) -> list[str]:
    """A sentence for each model whose recipe differs from the first one's in more than its conditioning."""
    first, *others = models
    sentences = []
    for other in others:
        parts = [part for part in first.recipe if part not in ("name", "conditioning")]
        apart = [name for part in parts for name in _differing(part, first.recipe[part], other.recipe.get(part))]
        if apart:
            sentences.append(
                f"{method_of(other)} was not trained like {method_of(first)}, so a difference may come of {', '.join(apart)}."
            )
    return sentences


def scored_otherwise(sweep: Mapping[str, Any], model: StoredModel) -> list[str]:
    """A sentence where a sweep's networks are not those of a model of its family: its scores are then not the rows'."""
    parts = {part: stated for part, stated in sweep["config"]["recipe"].items() if part in model.recipe}
    apart = [
        name
        for part, stated in parts.items()
        for name in _differing(part, stated, _restricted(model.recipe[part], stated))
        if not name.endswith("_every")  # how often something is written
    ]
    if not apart:
        return []
    return [
        f"The scores of {sweep['name']} are of other networks than the rows show: they differ in {', '.join(apart)}."
    ]


def _restricted(whole: Any, stated: Any) -> Any:
    """Of a recipe's part what a sweep states; the rest of it is the default."""
    return {key: whole.get(key) for key in stated} if isinstance(stated, Mapping) else whole


def _differing(part: str, one: Any, other: Any) -> list[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [f"{part}.{key}" for key in {**one, **other} if one.get(key) != other.get(key)]
    return [part] * (one != other)


def shown_alone(models: Sequence[StoredModel], rows: Sequence[StoredModel]) -> list[str]:
    """A sentence where the stored frames of some models are not among the rows, since they show inputs of their own.

    Args:
        models: of the family.
        rows: whose frames are on show.
    """
    apart = [method_of(model) for model in models if model.sweep is not None and model not in rows]
    if not apart:
        return []
    return [
        f"The stored frames of {', '.join(apart)} show those models' own samples; choose inputs above, and all models stand here"
        " on the same ones."
    ]


def missing(
    family: str, models: Sequence[StoredModel], sweep: Mapping[str, Any] | None, known: Sequence[str]
) -> list[str]:
    """What a comparison of this family lacks, and the commands that make it.

    Args:
        family: its name.
        models: its checkpoints.
        sweep: its scores, if they are here.
        known: names of the sweeps that come with the package.
    """
    sentences, here = [], {method_of(model) for model in models}
    if sweep is None:
        unknown = "a config like those in `dpi_core/recipes/sweeps`, given to `python -m dpi_core sweep`, trains"
        how = f"`python -m dpi_core sweep {family}` trains" if family in known else unknown
        sentences.append(
            f"There are no scores of a sweep for {family}: {how} every method with several seeds, for paired intervals, costs and"
            f" sample quality. Until then the checkpoints here are compared: {', '.join(sorted(here))}."
        )
        alike = scored_alike(models)
        apart = [method_of(model) for model in models if "held_out" in model.metrics and model not in alike]
        if apart:
            sentences.append(
                f"Scored at other noise levels than {method_of(alike[0])}, so left out until inputs are chosen:"
                f" {', '.join(apart)}."
            )
    else:
        gone = [name for name in sweep["methods"] if name not in here]
        if gone and sweep["name"] == family:
            sentences.append(
                f"Scored by the sweep, but without weights here to look at: {', '.join(gone)}. Copy a run of"
                f" `runs/sweeps/{family}/<method>-<seed>` to `checkpoints/{family}-<method>`."
            )
    bare = [model for model in models if model.sweep is None]
    if bare:
        folder = bare[0].name if bare[0].source.origin == "zoo" else "FOLDER"
        sentences.append(
            f"Without stored frames, so not among the rows until inputs are chosen: {', '.join(map(method_of, bare))}"
            f" (`python -m dpi_core analyse {folder} --only frames` stores them)."
        )
    return sentences
