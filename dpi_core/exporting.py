"""A network at one scalar, θ(s), for use without this library: a plain state dict, `torch.export`, ONNX.

What is written is the network F(θ(s), ·) alone. A denoiser gives it c_in·x_s and reads its answer as the process says,
x̂0 = c_skip·x_s + c_out·F; the three factors at this s are written beside it where the format has a place for text.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from dpi_core.checkpoint import write_tensors
from dpi_core.interpolation import DPI
from dpi_core.model import Model
from dpi_core.one_set import Blind

About = Mapping[str, str]


def plain_network(model: Model, s: float | None = None) -> nn.Module:
    """The network of a model as an ordinary module, in evaluation mode.

    Args:
        model: of two parameter sets, or blind.
        s: where, in [0, 1]; None for a blind network, which is the same everywhere.

    Raises:
        ValueError: s is missing, out of range, or given for a network without λ; or the network is no plain one at any s.
    """
    if isinstance(model.net, DPI):
        if s is None:
            raise ValueError(f"{model.recipe.name} is another network at every s; say at which one by --s, in [0, 1].")
        with torch.no_grad():
            return model.net.materialize(model.denoiser.physical(s)).cpu().eval()
    if not isinstance(model.net, Blind):
        raise ValueError(
            f"{model.recipe.name} is conditioned by {model.recipe.conditioning.kind!r}, which is no plain network at any s;"
            " choose a DPI or a blind model."
        )
    if s is not None:
        raise ValueError(f"{model.recipe.name} has one parameter set, the same at every s; leave --s out.")
    return copy.deepcopy(model.net.backbone).cpu().eval()


def about(model: Model, s: float | None) -> dict[str, str]:
    """What the exported network is, as text: where it stands and how its answer becomes x̂0."""
    text = {"model": model.recipe.name, "predicts": model.process.prediction, "process": type(model.process).__name__}
    if s is None:
        return text
    factors = model.process.preconditioning(s)
    numbers = {name: getattr(factors, name).item() for name in ("c_skip", "c_out", "c_in")}
    return text | {"s": repr(s)} | {name: repr(value) for name, value in numbers.items()}


def write_safetensors(file: Path, network: nn.Module, shape: tuple[int, ...], text: About) -> None:
    """The plain state dict; tied parameters stand under each of their names."""
    write_tensors(file, network.state_dict(), text)


def write_program(file: Path, network: nn.Module, shape: tuple[int, ...], text: About) -> None:
    """What `torch.export.load` reads; any number of samples."""
    torch.export.save(export_program(network, shape), file, extra_files={"about.json": json.dumps(dict(text))})


def write_onnx(file: Path, network: nn.Module, shape: tuple[int, ...], text: About) -> None:
    """ONNX with the input `x` and the output `y`; any number of samples.

    Raises:
        ValueError: the packages that write ONNX are not installed.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise ValueError("ONNX is written by onnx and onnxscript; run `pip install onnx onnxscript`.")
    with _quiet():
        program = torch.onnx.export(
            export_program(network, shape), dynamo=True, input_names=["x"], output_names=["y"], verbose=False
        )
    assert program is not None
    program.model.metadata_props.update(text)
    program.save(file)


FORMATS: dict[str, tuple[str, Callable[[Path, nn.Module, tuple[int, ...], About], None]]] = {
    "safetensors": (".safetensors", write_safetensors),
    "pt2": (".pt2", write_program),
    "onnx": (".onnx", write_onnx),
}
"""Format -> how its files end, and what writes them."""


def export_program(network: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    """The network traced on samples of a shape.

    Raises:
        ValueError: the network cannot be traced: what it does depends on the values it is given.
    """
    like = next(network.parameters())
    x = torch.zeros(2, *shape, dtype=like.dtype)  # two, since a batch of one would be taken for a fixed size
    try:
        return torch.export.export(network, (x,), dynamic_shapes=({0: Dim.AUTO},))
    except Exception as error:  # tracing foreign code can fail in any way
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{type(network).__name__} cannot be traced by torch.export ({reason}); export safetensors instead."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on operators of packages that are not there and on its own use of torch."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
