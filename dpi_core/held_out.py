"""Held-out scores of a run on its way: a few samples at a few levels, of the averaged weights, one JSON line a time.

They cost about as much as two steps of training, whose losses they leave alone.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dpi_core.build import Recipe, build_denoiser
from dpi_core.checkpoint import write_text
from dpi_core.config import from_dict
from dpi_core.data import Data, HeldOutImages
from dpi_core.denoiser import Denoiser
from dpi_core.evaluation import LEVELS, denoising_errors, psnr
from dpi_core.training import TrainingState

FILE = "held_out.jsonl"
SCORED_LEVELS = LEVELS[::4]
SCORED_IMAGES, SCORED_POINTS = 64, 1024
SCORING_SEED = 0


@dataclass(frozen=True)
class HeldOutLog:
    """What the averaged weights score after some steps.

    Attributes:
        step: how many.
        measure: images are scored by PSNR in dB, points by the mean squared error.
        s: the noise levels.
        mean: over samples, at each level.
        samples: over levels, of each sample, so that runs can be compared in pairs.
    """

    step: int
    measure: Literal["psnr", "mse"]
    s: tuple[float, ...]
    mean: tuple[float, ...]
    samples: tuple[float, ...]


class HeldOutScores:
    """The file of a run's scores.

    Args:
        folder: of the run.
        recipe: what is trained.
        data: where held-out samples come from; the same ones for every run.
        step: where the run goes on; what was scored later is dropped.
        device: where scores are computed.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, data: Data, step: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.file, self.recipe, self.device = folder / FILE, recipe, device
        self.x0 = data.held_out_batch(_count(data), SCORING_SEED)
        self._judged: Denoiser | None = None
        kept = [log for log in read_held_out(self.file) if log.step <= step]
        write_text(self.file, "".join(map(_line, kept)))

    def add(self, state: TrainingState) -> None:
        """Scores the averaged weights of a state and writes its line."""
        scores = np.stack(
            [error for _, error in denoising_errors(self._denoiser(state), self.x0, SCORED_LEVELS, SCORING_SEED)]
        )
        if self.x0.ndim == 4:
            scores = psnr(scores)
        measure: Literal["psnr", "mse"] = "psnr" if self.x0.ndim == 4 else "mse"
        means = (tuple(scores.mean(axis=axis).tolist()) for axis in (1, 0))
        with self.file.open("a") as stream:
            stream.write(_line(HeldOutLog(state.step, measure, SCORED_LEVELS, *means)))

    @torch.no_grad()
    def _denoiser(self, state: TrainingState) -> Denoiser:
        self._judged = self._judged or build_denoiser(self.recipe).to(self.device).eval()
        for name, parameter in self._judged.named_parameters():
            parameter.copy_(state.tensors[f"ema.{name}"])
        for name, value in self._judged.named_buffers():
            value.copy_(state.tensors[f"buffer.{name}"])
        return self._judged


def read_held_out(file: Path) -> list[HeldOutLog]:
    """The scores in a file, none where it is missing; a torn last line is left out."""
    logs = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            logs.append(from_dict(HeldOutLog, json.loads(line), "scores"))
        except ValueError:
            break
    return logs


def samples_at(logs: list[HeldOutLog], step: float) -> np.ndarray:
    """The score of each sample after some steps, (n,), on a straight line between the two scores around it.

    Raises:
        ValueError: the scores do not reach from before to after that step.
    """
    steps = np.array([log.step for log in logs])
    after = int(np.searchsorted(steps, step))
    if not logs or after == len(logs) or (after == 0 and steps[0] != step):
        raise ValueError(f"the scores lie at the steps {steps.tolist()}, not around {step:g}; score more often.")
    values = np.array([log.samples for log in logs])
    before = max(0, after - 1)
    share = (step - steps[before]) / (steps[after] - steps[before]) if after > before else 0.0
    return (1 - share) * values[before] + share * values[after]


def _count(data: Data) -> int:
    return min(SCORED_IMAGES, len(data.held_out)) if isinstance(data, HeldOutImages) else SCORED_POINTS


def _line(log: HeldOutLog) -> str:
    return json.dumps(dataclasses.asdict(log)) + "\n"
