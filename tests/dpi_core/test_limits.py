"""Files measured before memory is taken: headers, sizes, configs."""

import json
import re
import struct
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dpi_core
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.checkpoint import check
from dpi_core.limits import Limits, building_within, layers_within, read_header
from dpi_core.model import Model
from dpi_core.state_dicts import read_state_dict

CONFIG = {
    "name": "ring-flow-dpi",
    "data": {"kind": "ring_mixture"},
    "shape": [2],
    "process": {"kind": "flow"},
    "backbone": {"kind": "mlp", "width": 4, "depth": 2},
    "conditioning": {"kind": "dpi", "schedule": {"n_knots": 5}},
    "training": {"steps": 3},
    "sampling": {"sampler": "heun", "steps": 4},
}


def saved(folder: Path, **changes) -> Path:
    recipe = recipe_from_dict({**CONFIG, **changes})
    return dpi_core.save(Model(build_denoiser(recipe), recipe, {}), folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("tiny"))


def with_header(header, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# Headers ---------------------------------------------------------------------------------------------------------


def test_a_header_lists_what_safetensors_wrote(tmp_path):
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros((), dtype=torch.int64), "c": torch.zeros(0, 5).half()}
    save_file(tensors, tmp_path / "x", {"step": "3"})
    found = read_header(tmp_path / "x", Limits())
    assert found == {"a": ("F32", (2, 3)), "b": ("I64", ()), "c": ("F16", (0, 5))}


HEADERS = {
    "a gap": (with_header({"a": entry(offsets=(4, 8))}, bytes(8)), "leave a gap"),
    "an overlap": (with_header({"a": entry(), "b": entry()}, bytes(4)), "overlap or leave a gap"),
    "bytes left over": (with_header({"a": entry()}, bytes(9)), "tensors take 4 bytes, but 9 follow"),
    "a tensor beyond the end": (with_header({"a": entry(shape=[9], offsets=(0, 36))}, bytes(4)), "but 4 follow"),
    "a shape that needs more": (with_header({"a": entry(shape=[2**40])}, bytes(4)), "not what its shape needs"),
    "a negative size": (with_header({"a": entry(shape=[-1])}, bytes(4)), "lacks type, shape or place"),
    "a size that is no integer": (with_header({"a": entry(shape=[True])}, bytes(4)), "lacks type, shape or place"),
    "a type that is no text": (with_header({"a": {**entry(), "dtype": []}}, bytes(4)), "lacks type, shape or place"),
    "an unknown type": (with_header({"a": entry("F31")}, bytes(4)), "lacks type, shape or place"),
    "no object": (with_header([]), "its header is no object"),
    "no entry": (with_header({"a": 3}), "lacks type, shape or place"),
    "deep nesting": (with_header(b"[" * 100_000), "its header is not JSON"),
    "no JSON": (with_header(b"\xff\xfe"), "its header is not JSON"),
    "a header beyond the end": (struct.pack("<Q", 2**62), "its header is longer than the file"),
    "too little for a header": (b"abc", "its header is longer than the file"),
}


@pytest.mark.parametrize(("content", "sentence"), HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_does_not_describe_its_file_is_refused(tmp_path, content, sentence):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=f"not a readable safetensors file .*{sentence}"):
        read_header(tmp_path / "x", Limits())


# Limits ----------------------------------------------------------------------------------------------------------

# name -> a limit that the tiny checkpoint just exceeds
EXCEEDED = {
    "json_bytes": 100,
    "header_bytes": 100,
    "file_bytes": 500,
    "tensors": 8,
    "numbers": 60,
    "sample_numbers": 1,
    "layer_numbers": 3,
    "steps": 3,
}


ELSEWHERE = {
    "knots": "test_reference_format.py",
    "download_bytes": "test_hub.py",
    "image_pixels": "test_data.py",
    "data_bytes": "test_data.py",
    "image_bytes": "../app/test_uploads.py",
    "images": "../app/test_uploads.py",
    "images_bytes": "../app/test_uploads.py",
    "session_models": "../app/test_own_models.py",
    "session_bytes": "../app/test_own_models.py",
    "server_bytes": "../app/test_own_models.py",
    "result_numbers": "../app/test_engine.py",
}
"""Limits that a checkpoint does not meet -> where they are tested."""


def test_every_limit_is_tested_and_documented():
    assert set(EXCEEDED) | set(ELSEWHERE) == {field.name for field in fields(Limits)}
    for name, file in ELSEWHERE.items():
        assert f"MAX_{name.upper()}" in (Path(__file__).parent / file).read_text(), name
    table = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    for field in fields(Limits):
        row = re.search(rf"\| `DPI_MAX_{field.name.upper()}` \|.*\| ([\d,]+) \|", table)
        assert row and int(row[1].replace(",", "")) == field.default, field.name


def test_weights_that_are_imported_are_measured_like_others(tmp_path, monkeypatch):
    save_file({"a.b": torch.zeros(100)}, tmp_path / "x.safetensors")
    torch.save({"a.b": torch.zeros(100)}, tmp_path / "x.pt")
    for name, limit, files in (("NUMBERS", 99, ["x.safetensors"]), ("FILE_BYTES", 300, ["x.safetensors", "x.pt"])):
        monkeypatch.setenv(f"DPI_MAX_{name}", str(limit))
        for file in files:
            with pytest.raises(ValueError, match=rf"more than the {limit} allowed; .*DPI_MAX_{name}"):
                read_state_dict(tmp_path / file)
        monkeypatch.undo()
        assert all(read_state_dict(tmp_path / file)["a.b"].numel() == 100 for file in files)


@pytest.mark.parametrize(("name", "limit"), EXCEEDED.items())
def test_every_limit_is_named_in_the_message_and_can_be_raised(tiny, monkeypatch, name, limit):
    with pytest.raises(ValueError, match=rf"more than the {limit} allowed; .*Limits.{name} \(DPI_MAX_{name.upper()}\)"):
        check(tiny, Limits(**{name: limit}))
    monkeypatch.setenv(f"DPI_MAX_{name.upper()}", str(limit))
    with pytest.raises(ValueError, match=f"Limits.{name}"):
        dpi_core.load(tiny)
    monkeypatch.setenv(f"DPI_MAX_{name.upper()}", str(10**12))
    dpi_core.load(tiny)


@pytest.mark.parametrize("text", ["-1", "0", "1e9", "", "²"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("DPI_MAX_STEPS", text)
    with pytest.raises(ValueError, match="DPI_MAX_STEPS is .*positive integer"):
        Limits.from_environment()


def test_building_stops_before_a_network_is_complete():
    built = []

    class Endless(nn.Module):
        def __init__(self):
            super().__init__()
            for number in range(10**9):
                built.append(number)
                self.register_parameter(f"p{number}", nn.Parameter(torch.zeros(1)))

    with pytest.raises(ValueError, match="far more than the 3 tensors"), building_within(3, 10**6):
        Endless()
    assert len(built) == 4 * 3 + 100 + 1
    nn.Linear(1000, 1000)  # nothing is counted afterwards


def test_a_layer_is_measured_and_nothing_remains_on_the_network():
    network = nn.Sequential(nn.Linear(2, 50), nn.Linear(50, 2))
    with (
        pytest.raises(ValueError, match="the output of 0 has 50 numbers"),
        layers_within(network, Limits(layer_numbers=49)),
    ):
        network(torch.zeros(1, 2))
    assert all(not layer._forward_hooks for layer in network.modules())


def test_a_tiny_network_with_gigantic_activations_is_refused(tmp_path):
    """30 levels pad an image of 8 × 8 to 2²⁹ × 2²⁹; its few weights fit in any file."""
    backbone = {"kind": "drunet", "channels": [1] * 30, "blocks": 1}
    folder = saved(tmp_path, shape=[1, 8, 8], backbone=backbone)
    with pytest.raises(ValueError, match="Limits.layer_numbers"):
        dpi_core.load(folder)
