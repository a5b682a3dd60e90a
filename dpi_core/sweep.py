"""Methods × seeds from one config: everything alike but what a method changes, judged on identical samples and noise.

<folder>/<method>-<seed>/   run state and log, the checkpoint's files, scores.safetensors: the score of every sample
<folder>/metrics.json       all runs, and every method against every other one, paired over samples
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.numpy import load_file
from torch import Tensor

from dpi_core import checkpoint
from dpi_core.analysis.trajectories import energy_distance
from dpi_core.build import SWEEPS, Recipe, method_recipe, recipe_from_dict
from dpi_core.card import command_line
from dpi_core.classifier import features
from dpi_core.conditioning import ConditioningConfig
from dpi_core.config import from_dict
from dpi_core.cost import measure_costs
from dpi_core.data import FOLDER_KINDS, Data, HeldOutImages
from dpi_core.distances import frechet_distance, precision_recall, sliced_wasserstein, ssim
from dpi_core.equal_time import equal_time
from dpi_core.evaluation import LEVELS, bootstrap_intervals, compare, denoised, psnr
from dpi_core.held_out import FILE as HELD_OUT
from dpi_core.held_out import HeldOutLog, read_held_out
from dpi_core.images import ImageData
from dpi_core.interpolation import DPI
from dpi_core.judges import Judge
from dpi_core.model import Model
from dpi_core.parallel import Team
from dpi_core.precision import multiplying_in
from dpi_core.reports import about_data, hardware, lambda_scores
from dpi_core.runs import train_run
from dpi_core.seeds import seeded_generator
from dpi_core.training import rate_factor
from dpi_core.verdicts import origins, total_steps

SCORES = "scores.safetensors"
JUDGING_SEED = 0
SAMPLES_AT_ONCE = 2500
FLOOR_DRAWS = 20
"""Sets of data that are held against the held-out ones."""


@dataclass(frozen=True)
class Method:
    """What one method of a sweep changes.

    Attributes:
        conditioning: how the scalar reaches the network.
        training: keys of the recipe's training that this method alone has otherwise.
        start: another method, whose trained network of the same seed this one starts with.
    """

    conditioning: ConditioningConfig
    training: dict[str, Any] = field(default_factory=dict)
    start: str | None = None


@dataclass(frozen=True)
class SweepConfig:
    """A comparison of methods.

    Attributes:
        name: of the sweep, and the beginning of its models' names.
        recipe: a recipe without name and conditioning.
        methods: what is compared; the first is held against each of the others.
        seeds: of training; every method is trained with each.
        judged: held-out samples that denoising is judged on, at most as many as there are.
        samples: drawn to judge generation, at least 2; 0 leaves it out.
    """

    name: str
    recipe: dict[str, Any]
    methods: dict[str, Method]
    seeds: tuple[int, ...] = (0,)
    judged: int = 1000
    samples: int = 0

    def __post_init__(self) -> None:
        if not self.methods or not self.seeds:
            raise ValueError(f"the sweep {self.name!r} needs at least one method and one seed; add them.")
        for name, method in self.methods.items():
            if method.start is not None and method.start not in self.methods:
                raise ValueError(
                    f"method {name!r} starts from {method.start!r}, which is no method of the sweep; add it."
                )
        self.runs()

    def runs(self) -> list[tuple[str, int, Recipe]]:
        """(method, seed, recipe) in the order of training: what others start from comes first.

        Raises:
            ValueError: methods start from each other in a circle, or a recipe is wrong.
        """
        order: list[str] = []
        while len(order) < len(self.methods):
            ready = [
                name for name, method in self.methods.items() if name not in order and method.start in (None, *order)
            ]
            if not ready:
                raise ValueError(f"methods of the sweep {self.name!r} start from each other in a circle; break it.")
            order += ready
        return [(name, seed, self._recipe(name, seed)) for seed in self.seeds for name in order]

    def _recipe(self, name: str, seed: int) -> Recipe:
        method = self.methods[name]
        training = {**method.training, "seed": seed}
        conditioning = asdict(method.conditioning)
        return recipe_from_dict(method_recipe(f"{self.name}-{name}", self.recipe, conditioning, training))


def load_sweep(name_or_path: str) -> SweepConfig:
    """A sweep's config by file, or by the name of one that comes with the package.

    Raises:
        ValueError: there is none, or it is wrong; the message says how.
    """
    path = Path(name_or_path) if name_or_path.endswith(".json") else SWEEPS / f"{name_or_path}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SWEEPS.glob("*.json")))
        raise ValueError(f"there is no sweep {name_or_path!r}; give a JSON file or one of {known}.")
    try:
        return from_dict(SweepConfig, json.loads(path.read_text()), "sweep")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def sweep(
    config: SweepConfig,
    data: Data,
    folder: Path,
    device: str = "cpu",
    judge: Judge | None = None,
    say: Callable[[str], None] = print,
    only: Collection[str] = (),
    timed: bool = True,
) -> dict[str, Any] | None:
    """Trains and judges what is missing, and writes all scores into `metrics.json` of the folder.

    Args:
        config: what is compared.
        data: the data set of all.
        folder: of the sweep; a stopped one goes on there.
        device: where the models are trained and judged.
        judge: of the data, in whose features samples are judged; see `set_distances`.
        say: told of each run as it is done.
        only: runs, named <method>-<seed>; no other is trained, and nothing is summed up. So several processes or machines
            share a sweep, and a last call without it writes `metrics.json`.
        timed: whether the cost of each method is measured, which wants a quiet machine; if not, it is taken from the last
            `metrics.json`.

    Returns:
        What `metrics.json` holds, or None with `only`.

    Raises:
        ValueError: the folder holds another sweep, there is no such run, or no cost of each method to take.
    """
    if unknown := set(only) - {f"{name}-{seed}" for name, seed, _ in config.runs()}:
        raise ValueError(
            f"the sweep {config.name!r} has no run {', '.join(sorted(unknown))}; name one as METHOD-SEED, for example"
            f" {next(iter(config.methods))}-{config.seeds[0]}."
        )
    scores: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in config.methods}
    metrics: dict[str, list[dict[str, Any]]] = {name: [] for name in config.methods}
    on_the_way: dict[str, list[list[HeldOutLog]]] = {name: [] for name in config.methods}
    for name, seed, recipe in config.runs():
        place = folder / f"{name}-{seed}"
        if only and place.name not in only:
            continue
        if not (place / SCORES).is_file():
            start = config.methods[name].start
            origin = None if start is None else checkpoint.load(folder / f"{start}-{seed}", device)
            model = train_run(recipe, data, place, Team(device), origin)
            _judge(model, config, data, place, judge)
        _check_recipe(place, recipe)
        metrics[name].append(checkpoint.read_json(place / checkpoint.METRICS))
        scores[name].append(load_file(place / SCORES))
        on_the_way[name].append(read_held_out(place / HELD_OUT))
        say(f"{name}, seed {seed}: final loss {metrics[name][-1]['training']['final_loss']:.4f}")
    if only:
        return None
    costs = _measured_costs(config, device) if timed else _known_costs(config, folder / checkpoint.METRICS)
    result = _summary(config, data, metrics, scores, _floor(config, data, judge), costs)
    result["judge"] = None if judge is None else judge.about()
    result |= _at_other_steps(result, config, on_the_way)
    checkpoint.write_json(folder / checkpoint.METRICS, result)
    return result


def _check_recipe(place: Path, recipe: Recipe) -> None:
    if recipe_from_dict(checkpoint.read_json(place / checkpoint.CONFIG)) != recipe:
        raise ValueError(f"{place} holds a model of another recipe; remove it, or give another folder by --runs.")


def _judge(model: Model, config: SweepConfig, data: Data, place: Path, judge: Judge | None) -> None:
    """Writes the checkpoint with its metrics, and last the scores, whose presence says that the run is done."""
    x0 = _held_out(data, config.judged)
    scores = denoising_scores(model, x0)
    path = "PATH" if config.recipe["data"]["kind"] in FOLDER_KINDS else None
    model.metrics["training"]["command"] = command_line("sweep", config.name, data=path)
    model.metrics["data"] = about_data(data, config.recipe["data"]["kind"])
    model.metrics["parameters"] = sum(p.numel() for p in model.net.parameters())
    model.metrics["held_out"] = {
        "n": len(x0),
        "s": list(LEVELS),
        "seed": JUDGING_SEED,
        **{measure: _held_out_scores(measure, values) for measure, values in scores.items()},
    }
    if isinstance(model.net, DPI):
        model.metrics["lambda"] = lambda_scores(model.net)
    if config.samples and model.process.generative:
        real = _held_out(data, config.samples)
        model.metrics["generation"] = set_distances(draw(model, len(real), model.recipe.training.seed), real, judge)
    checkpoint.save(model, place)
    tensors = {measure: torch.from_numpy(values.astype(np.float32)) for measure, values in scores.items()}
    checkpoint.write_tensors(place / SCORES, tensors)


def _held_out_scores(measure: str, values: np.ndarray) -> list[Any]:
    """At each level, as `reports.evaluate` writes it: means of the mean squared error, intervals of the others."""
    return values.mean(axis=1).tolist() if measure == "mse" else [asdict(each) for each in bootstrap_intervals(values)]


def _floor(config: SweepConfig, data: Data, judge: Judge | None) -> dict[str, list[float]]:
    """The same distances between data and other data, drawn several times: no model can be expected to beat their average."""
    if not config.samples:
        return {}
    real = _seen_by(judge, _held_out(data, config.samples))
    # An image that is drawn twice would be at no distance from itself.
    draw = data.different_batch if isinstance(data, ImageData) else data.batch
    others = (draw(len(real), seeded_generator(JUDGING_SEED, 1, i)) for i in range(FLOOR_DRAWS))
    found = [_distances(_seen_by(judge, other), real, judge) for other in others]
    return {distance: [each[distance] for each in found] for distance in found[0]}


def _held_out(data: Data, n: int) -> Tensor:
    return data.held_out_batch(min(n, len(data.held_out)) if isinstance(data, HeldOutImages) else n, JUDGING_SEED)


def denoising_scores(model: Model, x0: Tensor) -> dict[str, np.ndarray]:
    """What denoising is judged by, at each level for each sample, (l, n): images by PSNR and SSIM, points by the error.

    Args:
        model: what is judged.
        x0: clean held-out samples, (n, ...).
    """
    found = list(denoised(model.denoiser, x0, LEVELS, JUDGING_SEED))
    mse = np.stack([(x0_hat - x0).square().flatten(1).mean(1).double().numpy() for _, x0_hat in found])
    if x0.ndim < 4:
        return {"mse": mse}
    return {"mse": mse, "psnr": psnr(mse), "ssim": np.stack([ssim(x0_hat, x0).numpy() for _, x0_hat in found])}


def draw(model: Model, n: int, seed: int) -> Tensor:
    """Samples of a model by its own sampler, (n, ...), float32 on the CPU; it multiplies in the precision of its training."""
    ends = []
    with multiplying_in(model.recipe.training.precision, model.denoiser.device):
        for first in range(0, n, SAMPLES_AT_ONCE):
            *_, last = model.sample_states(range(first, min(first + SAMPLES_AT_ONCE, n)), seed=seed)
            ends.append(last.x.float().cpu())
    return torch.cat(ends)


def set_distances(x: Tensor, y: Tensor, judge: Judge | None = None) -> dict[str, float]:
    """How far two equally large sets of samples are apart.

    Args:
        x: samples, (n, ...).
        y: data, (n, ...).
        judge: of such images; in its features then the Fréchet distance, precision and recall are taken.
            Without one, the energy distance and the sliced Wasserstein distance of the samples themselves.
    """
    return _distances(_seen_by(judge, x), _seen_by(judge, y), judge)


def _seen_by(judge: Judge | None, x: Tensor) -> Tensor:
    """The judge's features of samples, or the samples themselves, (n, d)."""
    return x.flatten(1) if judge is None else features(judge.classifier, x)


def _distances(x: Tensor, y: Tensor, judge: Judge | None) -> dict[str, float]:
    if judge is not None:
        return {"frechet": frechet_distance(x, y), **asdict(precision_recall(x, y))}
    return {
        "energy": energy_distance(x, y),
        "sliced_wasserstein": sliced_wasserstein(x, y, seeded_generator(JUDGING_SEED)),
    }


# All runs together -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Costs:
    """What each method costs, as JSON, and the hardware that it was measured on."""

    hardware: str
    methods: dict[str, dict[str, Any]]


def _measured_costs(config: SweepConfig, device: str) -> Costs:
    found = measure_costs(_recipes(config), device)
    return Costs(hardware(device), {name: asdict(cost) for name, cost in found.items()})


def _known_costs(config: SweepConfig, file: Path) -> Costs:
    known = checkpoint.read_json(file) if file.is_file() else {"methods": {}}
    if missing := [name for name in config.methods if name not in known["methods"]]:
        raise ValueError(
            f"{file} holds no cost of {', '.join(missing)}; leave out --untimed once, so that it is measured."
        )
    return Costs(known["hardware"], {name: known["methods"][name]["cost"] for name in config.methods})


def _recipes(config: SweepConfig) -> dict[str, Recipe]:
    """Each method's, with the first seed."""
    return {name: recipe for name, seed, recipe in config.runs() if seed == config.seeds[0]}


def _summary(
    config: SweepConfig,
    data: Data,
    metrics: dict[str, list[dict[str, Any]]],
    scores: dict[str, list[dict[str, np.ndarray]]],
    floor: dict[str, list[float]],
    costs: Costs,
) -> dict[str, Any]:
    first, *others = config.methods
    measures = list(scores[first][0])
    return {
        "name": config.name,
        "config": json.loads(json.dumps(asdict(config))),
        "hardware": costs.hardware,
        "data": about_data(data, config.recipe["data"]["kind"]),
        "judged": scores[first][0][measures[0]].shape[1],
        "s": list(LEVELS),
        "floor": floor,
        "methods": {name: _method_summary(metrics[name], scores[name], costs.methods[name]) for name in config.methods},
        "against": _against(first, others, scores),
        "between": {name: _against(name, others[i:], scores) for i, name in enumerate(others[:-1], start=1)},
    }


def _against(first: str, others: list[str], scores: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, Any]:
    """One method against each of some others, by every measure, paired over samples."""
    return {
        other: {
            measure: asdict(compare(_oriented(scores[first], measure), _oriented(scores[other], measure)))
            for measure in scores[first][0]
        }
        for other in others
    }


def _at_other_steps(
    summary: dict[str, Any], config: SweepConfig, on_the_way: dict[str, list[list[HeldOutLog]]]
) -> dict[str, dict[str, Any]]:
    """The first method against each of the others where they are not read at their last step; those whose runs kept scores.

    Returns:
        "equal_time": after the same time; "equal_steps": after equally many steps, where one took more; "stopped": runs that
        ended before their plan.
    """
    plans = {name: recipe.training for name, recipe in _recipes(config).items()}
    done = {name: method["training"][0]["steps"] for name, method in summary["methods"].items()}
    step_ms = {name: summary["methods"][name]["cost"]["step_ms"] for name in done}
    first, *others = done

    def read(other: str, cost: Mapping[str, float]) -> dict[str, Any]:
        before = [sum(done[origin] * cost[origin] for origin in origins(name, summary)) for name in (first, other)]
        found = equal_time(on_the_way[first], on_the_way[other], (cost[first], cost[other]), (before[0], before[1]))
        if found is None:
            return {}
        rates = [rate_factor(step, plans[name]) for name, step in zip((first, other), found.steps, strict=True)]
        return {other: {**asdict(found), "rates": rates}}

    in_all = total_steps(summary)
    equal_times: dict[str, Any] = {}
    equal_steps: dict[str, Any] = {}
    for other in others:
        equal_times |= read(other, step_ms)
        if in_all[other] != in_all[first]:
            equal_steps |= read(other, dict.fromkeys(done, 1.0))
    stopped = {
        name: {"step": step, "planned": plans[name].steps, "rate": rate_factor(step, plans[name])}
        for name, step in done.items()
        if step < plans[name].steps
    }
    return {"equal_time": equal_times, "equal_steps": equal_steps, "stopped": stopped}


def _method_summary(
    runs: list[dict[str, Any]], scores: list[dict[str, np.ndarray]], cost: dict[str, Any]
) -> dict[str, Any]:
    return {
        "cost": cost,
        "training": [run["training"] for run in runs],
        "scores": {
            measure: _levels(np.stack([each[measure].astype(np.float64) for each in scores])) for measure in scores[0]
        },
        "generation": [run["generation"] for run in runs if "generation" in run],
        "lambda": [run["lambda"] for run in runs if "lambda" in run],
    }


def _levels(values: Float[np.ndarray, "k l n"]) -> dict[str, Any]:
    """Of one measure: at each level and over all, the mean over seeds and samples, with its interval over samples."""
    paired = values.mean(axis=0)
    *each, average = bootstrap_intervals(np.vstack([paired, paired.mean(axis=0)]))
    return {
        "each": [asdict(interval) for interval in each],
        "average": asdict(average),
        "seeds": values.mean(axis=(1, 2)).tolist(),
    }


def _oriented(scores: list[dict[str, np.ndarray]], measure: str) -> Float[np.ndarray, "k l n"]:
    """(seeds, levels, samples), the larger the better."""
    values = np.stack([each[measure] for each in scores]).astype(np.float64)
    return -values if measure == "mse" else values
