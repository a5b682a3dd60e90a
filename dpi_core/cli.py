"""`python -m dpi_core`: train, evaluate, analyse, sample, info."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from dpi_core import checkpoint
from dpi_core.build import Recipe, build_denoiser, load_recipe, recipe_to_dict
from dpi_core.card import model_card
from dpi_core.data import Data, download_fashion_mnist, load_data
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import SATURATION_WARNING
from dpi_core.model import Model
from dpi_core.reports import analyse, evaluate, hardware
from dpi_core.training import StepLog, TrainingState, train

CHECKPOINTS = Path("checkpoints")
RUNS = Path("runs")


def main(arguments: list[str] | None = None) -> None:
    """Runs one command; a ValueError becomes one sentence and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, FloatingPointError) as error:
        print(f"dpi_core {options.command}: {error}", file=sys.stderr)
        sys.exit(2)


def run_train(options: argparse.Namespace) -> None:
    """Trains a recipe, resuming the run if it was interrupted, and saves the checkpoint."""
    recipe = _with_overrides(load_recipe(options.recipe), options)
    data = _data(recipe, options)
    if tuple(data.shape) != recipe.shape:
        raise ValueError(f"the data have shape {tuple(data.shape)}, but {recipe.name} expects {recipe.shape}.")
    run = Run(options.runs / recipe.name, recipe)
    denoiser = build_denoiser(recipe).to(options.device)
    logs = run.record(train(denoiser, data, recipe.training, run.save_state, run.state))
    model = Model(denoiser, recipe)
    model.metrics["training"] = {
        "steps": recipe.training.steps,
        "seed": recipe.training.seed,
        "wall_seconds": round(sum(log.seconds for log in logs), 1),
        "final_loss": logs[-1].loss,
        "hardware": hardware(options.device),
        "command": f"python -m dpi_core train {recipe.name}" + (" --data PATH" if options.data else ""),
        "note": options.note,
    }
    print(checkpoint.save(model, options.out / recipe.name))


class Run:
    """A training run's folder: its recipe, the state to go on from, and the log as JSON lines.

    Raises:
        ValueError: the folder holds a run of another recipe.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.state_file, self.log_file, recipe_file = (
            folder / name for name in ("state.safetensors", "log.jsonl", "recipe.json")
        )
        self.steps = recipe.training.steps
        found = json.loads(json.dumps(recipe_to_dict(recipe)))
        if self.state_file.is_file() and checkpoint.read_json(recipe_file) != found:
            raise ValueError(f"{folder} holds a run of another recipe; remove it, or give another folder by --runs.")
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(recipe_file, found)
        self.state = checkpoint.load_training_state(self.state_file) if self.state_file.is_file() else None
        self.logs = _logs_up_to(self.log_file, 0 if self.state is None else self.state.step)

    def save_state(self, state: TrainingState) -> None:
        """Keeps what the run needs to go on."""
        checkpoint.save_training_state(self.state_file, state)

    def record(self, steps: Iterable[StepLog]) -> list[StepLog]:
        """Writes and shows the logs as they come; returns all of the run, with those from before it was stopped."""
        warned = False
        with self.log_file.open("w") as stream, tqdm(total=self.steps, unit="step") as bar:
            stream.writelines(_line(log) for log in self.logs)
            for log in steps:
                self.logs.append(log)
                stream.write(_line(log))
                stream.flush()
                bar.update(log.step - bar.n)
                bar.set_postfix_str(_summary(log))
                if not warned and log.saturation is not None and log.saturation < SATURATION_WARNING:
                    warned = True
                    bar.write(f"step {log.step}: λ saturates, {_summary(log)}")
        return self.logs


def run_evaluate(options: argparse.Namespace) -> None:
    """Measures a checkpoint on held-out data and writes metrics.json and the model card."""
    folder = _folder(options.checkpoint)
    model = checkpoint.load(folder, options.device)
    scores = evaluate(model, _data(model.recipe, options), options.data, RUNS / "judges", _progress)
    model.metrics.update(scores)
    checkpoint.write_json(folder / checkpoint.METRICS, model.metrics)
    checkpoint.write_text(folder / checkpoint.CARD, model_card(model))
    print(json.dumps(scores, indent=1, ensure_ascii=False))


def run_analyse(options: argparse.Namespace) -> None:
    """Computes what the app shows first and stores it with the checkpoint."""
    folder = _folder(options.checkpoint)
    model = checkpoint.load(folder, options.device)
    tensors, about = analyse(model, _data(model.recipe, options), not options.without_parameters, _progress)
    checkpoint.write_tensors(folder / checkpoint.ANALYSIS, tensors, {"about": json.dumps(about, ensure_ascii=False)})
    print(f"{folder / checkpoint.ANALYSIS}: {about['inputs']}")


def run_sample(options: argparse.Namespace) -> None:
    """Draws samples and writes them as safetensors."""
    model = checkpoint.load(_folder(options.checkpoint), options.device)
    result = model.sample(options.n, options.sampler, options.steps, options.seed)
    checkpoint.write_tensors(options.out, {"x": result.x}, {"seed": str(options.seed), "nfe": str(result.nfe)})
    print(f"{options.out}: x of shape {tuple(result.x.shape)}, {result.nfe} network evaluations each")


def run_info(options: argparse.Namespace) -> None:
    """Prints what a checkpoint is."""
    model = checkpoint.load(_folder(options.checkpoint))
    print(json.dumps(recipe_to_dict(model.recipe), indent=1))
    print(f"parameters: {sum(p.numel() for p in model.net.parameters()):,}")
    if isinstance(model.net, DPI):
        print(f"saturation: {model.net.schedule.saturation()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dpi_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=Path, help="folder with the data set's files (kinds idx and image_folder)")
    data.add_argument("--download", action="store_true", help="fetch Fashion-MNIST into the folder of --data first")

    training = commands.add_parser("train", parents=[device, data], help="train a recipe; goes on where a run stopped")
    training.add_argument("recipe", help="a recipe's name, or a JSON file")
    training.add_argument("--out", type=Path, default=CHECKPOINTS, help="where the checkpoint's folder is made")
    training.add_argument("--runs", type=Path, default=RUNS, help="where logs and resume states lie")
    training.add_argument("--steps", type=int, help="instead of the recipe's")
    training.add_argument("--seed", type=int, help="instead of the recipe's")
    training.add_argument("--note", default="", help="a remark for the model card")
    training.set_defaults(run=run_train)

    for name, run in (("evaluate", run_evaluate), ("analyse", run_analyse)):
        command = commands.add_parser(name, parents=[device, data], help=(run.__doc__ or "").rstrip("."))
        command.add_argument("checkpoint", help="a folder, or a name in checkpoints/")
        command.set_defaults(run=run)
    commands.choices["analyse"].add_argument(
        "--without-parameters", action="store_true", help="leave the Parameters page to be computed on demand"
    )

    sample = commands.add_parser("sample", parents=[device], help="draw samples")
    sample.add_argument("checkpoint", help="a folder, or a name in checkpoints/")
    sample.add_argument("--n", type=int, default=16)
    sample.add_argument("--sampler", help="instead of the recipe's")
    sample.add_argument("--steps", type=int, help="instead of the recipe's")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, default=Path("samples.safetensors"))
    sample.set_defaults(run=run_sample)

    info = commands.add_parser("info", help="say what a checkpoint is")
    info.add_argument("checkpoint", help="a folder, or a name in checkpoints/")
    info.set_defaults(run=run_info)
    return parser


def _with_overrides(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    changes = {key: getattr(options, key) for key in ("steps", "seed") if getattr(options, key) is not None}
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **changes))


def _data(recipe: Recipe, options: argparse.Namespace) -> Data:
    if options.download:
        if options.data is None:
            raise ValueError("--download needs --data PATH, the folder to put the files in.")
        download_fashion_mnist(options.data)
    return load_data(recipe.data, options.data)


def _folder(name: str) -> Path:
    return Path(name) if Path(name).is_dir() else CHECKPOINTS / name


def _logs_up_to(file: Path, step: int) -> list[StepLog]:
    """The log lines of the part of a run that is kept; a torn last line is left out."""
    logs = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            log = StepLog(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            break
        if log.step <= step:
            logs.append(log)
    return logs


def _line(log: StepLog) -> str:
    return json.dumps(dataclasses.asdict(log)) + "\n"


def _summary(log: StepLog) -> str:
    text = f"loss {log.loss:.4f}"
    return text if log.saturation is None else f"{text}, 90 % of λ within {log.saturation:.2f} of s"


def _progress(steps: Iterable, total: int, label: str) -> Iterable:
    return tqdm(steps, total=total, desc=label)
