"""A checkpoint as the pages know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.records.denoise import PadResult, SweepResult
from app.records.inputs import ModelKey
from app.records.layers import LayerDetailResult, LayersResult
from app.records.parameters import ParametersResult


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A checkpoint folder without its weights.

    Attributes:
        key: names it to the engine.
        name: of the folder.
        recipe: its config.json.
        metrics: its metrics.json, or empty.
        sweep: stored frames along s, if any.
        pad: stored frames over (noise level, λ), if any.
        shown: what the stored inputs are, in one phrase.
        parameters: what the Parameters page shows first, if it is stored.
        layers: what the Layers page shows first, if it is stored.
        layer: its most needed layer in detail, for the first of the stored inputs, if it is stored.
    """

    key: ModelKey
    name: str
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    sweep: SweepResult | None
    pad: PadResult | None
    shown: str
    parameters: ParametersResult | None = None
    layers: LayersResult | None = None
    layer: LayerDetailResult | None = None

    @property
    def is_image(self) -> bool:
        """Whether samples are images (c, h, w) and not points."""
        return len(self.recipe["shape"]) == 3

    @property
    def has_two_sets(self) -> bool:
        """Whether there is a λ to move."""
        return self.recipe["conditioning"]["kind"] == "dpi"

    @property
    def family(self) -> str:
        """Data and process, shared by models that are compared: the name without its conditioning."""
        return self.name.rsplit("-", 1)[0]
