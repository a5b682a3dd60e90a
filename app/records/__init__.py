"""Frozen records that pass between pages, figures and the engine: requests, NumPy results, stored models.

No torch, no streamlit.

A request holds everything its result depends on, so it is the result's key.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from app.records.compare import Comparison as Comparison
from app.records.compare import ComparisonRequest as ComparisonRequest
from app.records.compare import ComparisonResult as ComparisonResult
from app.records.compare import Measure as Measure
from app.records.compare import Scores as Scores
from app.records.denoise import PadRequest as PadRequest
from app.records.denoise import PadResult as PadResult
from app.records.denoise import SweepRequest as SweepRequest
from app.records.denoise import SweepResult as SweepResult
from app.records.inputs import INPUT_KINDS as INPUT_KINDS
from app.records.inputs import InputKind as InputKind
from app.records.inputs import Inputs as Inputs
from app.records.inputs import ModelKey as ModelKey
from app.records.inputs import Upload as Upload
from app.records.layers import LayerDetailRequest as LayerDetailRequest
from app.records.layers import LayerDetailResult as LayerDetailResult
from app.records.layers import LayersRequest as LayersRequest
from app.records.layers import LayersResult as LayersResult
from app.records.layers import ReceptiveFieldRequest as ReceptiveFieldRequest
from app.records.layers import ReceptiveFieldResult as ReceptiveFieldResult
from app.records.models import Origin as Origin
from app.records.models import Source as Source
from app.records.models import StoredModel as StoredModel
from app.records.models import StoredSamples as StoredSamples
from app.records.parameters import CurvesRequest as CurvesRequest
from app.records.parameters import CurvesResult as CurvesResult
from app.records.parameters import LandscapeResult as LandscapeResult
from app.records.parameters import ParametersRequest as ParametersRequest
from app.records.parameters import ParametersResult as ParametersResult
from app.records.parameters import PathsResult as PathsResult
from app.records.parameters import WeightsResult as WeightsResult
from app.records.runs import TrainingRun as TrainingRun
from app.records.trajectories import PlaneRequest as PlaneRequest
from app.records.trajectories import PlaneResult as PlaneResult
from app.records.trajectories import QualityRequest as QualityRequest
from app.records.trajectories import QualityResult as QualityResult
from app.records.trajectories import TrajectoryRequest as TrajectoryRequest
from app.records.trajectories import TrajectoryResult as TrajectoryResult
from app.records.trajectories import VectorField as VectorField
from app.records.views import ViewsRequest as ViewsRequest
from app.records.views import ViewsResult as ViewsResult

LongRequest = (
    PadRequest | ParametersRequest | QualityRequest | LayersRequest | ReceptiveFieldRequest | ComparisonRequest
)
"""What takes from seconds to minutes, and nobody else should wait for."""

Request = (
    SweepRequest | CurvesRequest | TrajectoryRequest | PlaneRequest | LayerDetailRequest | ViewsRequest | LongRequest
)
Result = (
    SweepResult
    | PadResult
    | ParametersResult
    | CurvesResult
    | TrajectoryResult
    | PlaneResult
    | QualityResult
    | LayersResult
    | LayerDetailResult
    | ReceptiveFieldResult
    | ViewsResult
    | ComparisonResult
)


def size_in_bytes(result: Any) -> int:
    """Memory a result holds, that of the results in it included."""
    values = [getattr(result, item.name) for item in fields(result)]
    values += [each for value in values if isinstance(value, tuple) for each in value]
    own = sum(value.nbytes for value in values if isinstance(value, np.ndarray))
    return own + sum(size_in_bytes(value) for value in values if is_dataclass(value))
