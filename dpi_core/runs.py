"""Training runs on disk: the recipe, log and held-out scores as JSON lines, the state to go on from when interrupted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from dpi_core import checkpoint
from dpi_core.backbones import FactoryConfig
from dpi_core.build import Recipe, build_denoiser, recipe_from_dict, recipe_to_dict, warm_start
from dpi_core.config import from_dict
from dpi_core.data import Data
from dpi_core.held_out import HeldOutScores
from dpi_core.model import Model
from dpi_core.parallel import Team
from dpi_core.reports import hardware
from dpi_core.training import StepLog, TrainingState, train
from dpi_core.verdicts import SATURATION_WARNING


class Run:
    """A training run's folder: its recipe, the state to go on from, and the log as JSON lines.

    Args:
        folder: made if it does not exist.
        recipe: what is trained there.
        leads: whether this process writes; the others of a team only read.

    Raises:
        ValueError: the folder holds a run of another recipe, or a finished one whose log is gone.
    """

    def __init__(self, folder: Path, recipe: Recipe, leads: bool = True) -> None:
        self.state_file, self.log_file, recipe_file = (
            folder / name for name in ("state.safetensors", "log.jsonl", "recipe.json")
        )
        self.steps, self.leads = recipe.training.steps, leads
        # As recipes and not as texts: a key that was added since then has its default in both.
        if self.state_file.is_file() and recipe_from_dict(checkpoint.read_json(recipe_file)) != recipe:
            raise ValueError(f"{folder} holds a run of another recipe; remove it, or give another folder by --runs.")
        self.state = checkpoint.load_training_state(self.state_file) if self.state_file.is_file() else None
        done = 0 if self.state is None else self.state.step
        self.logs = _logs_up_to(self.log_file, done)
        if done == self.steps and [log.step for log in self.logs][-1:] != [done]:
            raise ValueError(
                f"{folder} holds a finished run, but {self.log_file.name} lacks its last line; restore it, or remove the"
                " folder to train again."
            )
        if leads:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write_json(recipe_file, recipe_to_dict(recipe))
            for torn in folder.glob(f".{self.state_file.name}.*"):  # a run that was killed while it saved leaves one
                torn.unlink()

    def save_state(self, state: TrainingState) -> None:
        """Keeps what the run needs to go on."""
        checkpoint.save_training_state(self.state_file, state)

    def record(self, steps: Iterable[StepLog]) -> list[StepLog]:
        """Writes and shows the logs as they come; returns all of the run, with those from before it was stopped."""
        if not self.leads:
            return [*self.logs, *steps]
        warned = False
        checkpoint.write_text(self.log_file, "".join(map(_line, self.logs)))
        with self.log_file.open("a") as stream, tqdm(total=self.steps, unit="step") as bar:
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


def train_run(recipe: Recipe, data: Data, folder: Path, team: Team | None = None, start: Model | None = None) -> Model:
    """Trains a recipe in its folder, from where a run there was stopped.

    Args:
        recipe: what is trained.
        data: what on.
        folder: the run's.
        team: the processes that train together; this one alone, on the CPU, by default.
        start: a trained model whose weights a new run starts with; see `build.warm_start`.

    Returns:
        The trained model; its metrics say how it was trained.

    Raises:
        ValueError: the data do not fit the recipe, or `start` does not; or as `Run`.
        FloatingPointError: the loss is no longer finite.
    """
    team = team if team is not None else Team()
    if tuple(data.shape) != recipe.shape:
        raise ValueError(f"the data have shape {tuple(data.shape)}, but {recipe.name} expects {recipe.shape}.")
    run = Run(folder, recipe, team.leads)
    denoiser = build_denoiser(recipe) if start is None else warm_start(recipe, start.denoiser, start.recipe)
    denoiser.to(team.device)
    step = 0 if run.state is None else run.state.step
    scores = HeldOutScores(folder, recipe, data, step, team.device) if team.leads else None

    def save(state: TrainingState) -> None:
        run.save_state(state)
        if scores is not None:
            scores.add(state)

    replays = not isinstance(recipe.backbone, FactoryConfig)  # of ours it is known that they branch on no value
    logs = run.record(train(denoiser, data, recipe.training, save, run.state, team, replays))
    about = {
        "steps": recipe.training.steps,
        "seed": recipe.training.seed,
        "wall_seconds": round(sum(log.seconds for log in logs), 1),
        "final_loss": logs[-1].loss,
        "hardware": hardware(str(team.device)) + ("" if team.size == 1 else f", {team.size} processes"),
    }
    if start is not None:
        about["start"] = start.recipe.name
    return Model(denoiser, recipe, {"training": about})


def _logs_up_to(file: Path, step: int) -> list[StepLog]:
    """The log lines of the part of a run that is kept; a torn last line is left out."""
    logs = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            log = from_dict(StepLog, json.loads(line), "log")
        except ValueError:
            break
        if log.step <= step:
            logs.append(log)
    return logs


def _line(log: StepLog) -> str:
    return json.dumps(dataclasses.asdict(log)) + "\n"


def _summary(log: StepLog) -> str:
    text = f"loss {log.loss:.4f}"
    return text if log.saturation is None else f"{text}, 90 % of λ within {log.saturation:.2f} of s"
