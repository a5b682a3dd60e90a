"""A checkpoint as the pages know it, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from app.records.denoise import PadResult, SweepResult
from app.records.inputs import InputKind, ModelKey
from app.records.layers import LayerDetailResult, LayersResult
from app.records.parameters import ParametersResult
from dpi_core.licences import FOLDER_KINDS

Origin = Literal["zoo", "folder", "upload", "hub"]
"""Shipped with the app; below a root that the operator allowed; handed over by a reader, for one session; from the Hub."""


@dataclass(frozen=True)
class Source:
    """One checkpoint that a session may look at.

    Attributes:
        name: what the sidebar and the link call it; no two sources of a session share one.
        folder: where its files lie.
        origin: how it came here.
        recipe_name: `<data>-<process>-<conditioning>`.
        load_from: what `dpi_core.load` is given in the lines of Python.
    """

    name: str
    folder: Path
    origin: Origin
    recipe_name: str
    load_from: str

    @property
    def family(self) -> str:
        """Data and process, shared by models that are compared."""
        return self.recipe_name.rsplit("-", 1)[0]

    @property
    def data(self) -> str:
        """What it was trained on."""
        return self.recipe_name.split("-")[0]


@dataclass(frozen=True, eq=False)
class StoredSamples:
    """Samples that a checkpoint stores; sample i of every model of one shape began as the same noise.

    Attributes:
        x: images (n, h, w, c) in bytes, 0 to 255 for -1 to 1; points (n, 2).
        sampler: a name of the library's samplers.
        steps: how many it took.
        seed: of the noise.
    """

    x: np.ndarray
    sampler: str
    steps: int
    seed: int


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A checkpoint folder without its weights.

    Attributes:
        key: names it to the engine.
        source: where it comes from.
        recipe: its config.json.
        metrics: its metrics.json, or empty.
        sweep: stored frames along s, if any.
        pad: stored frames over (noise level, λ), if any.
        shown: what the stored inputs are, in one phrase.
        drawn_by: the model whose samples they are, where that is another one.
        parameters: what the Parameters page shows first, if it is stored.
        layers: what the Layers page shows first, if it is stored.
        layer: its most needed layer in detail, for the first of the stored inputs, if it is stored.
        samples: what it draws by its recipe's sampler, if that is stored.
    """

    key: ModelKey
    source: Source
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    sweep: SweepResult | None
    pad: PadResult | None
    shown: str
    drawn_by: ModelKey | None = None
    parameters: ParametersResult | None = None
    layers: LayersResult | None = None
    layer: LayerDetailResult | None = None
    samples: StoredSamples | None = None

    @property
    def name(self) -> str:
        """What the pages call it."""
        return self.source.name

    @property
    def is_image(self) -> bool:
        """Whether samples are images (c, h, w) and not points."""
        return len(self.recipe["shape"]) == 3

    @property
    def is_generative(self) -> bool:
        """Whether its noise drowns the sample, so that there is an end to start sampling from."""
        return bool(self.recipe["process"]["kind"] != "awgn")

    @property
    def own_inputs(self) -> InputKind:
        """What it is shown with: held-out data, or, where those may not be passed on, its own samples or bundled photos."""
        if self.recipe["data"]["kind"] not in FOLDER_KINDS:
            return "held-out"
        return "samples" if self.is_generative else "photos"

    @property
    def has_two_sets(self) -> bool:
        """Whether there is a λ to move."""
        return self.recipe["conditioning"]["kind"] == "dpi"

    @property
    def family(self) -> str:
        """Data and process, shared by models that are compared."""
        return self.source.family
