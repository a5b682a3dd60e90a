"""Runs on disk: killed at any moment they go on, several processes are one, and a trained network can be the start."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import dpi_core
from dpi_core import checkpoint
from dpi_core.build import build_denoiser, recipe_from_dict, recipe_to_dict, warm_start
from dpi_core.cli import main
from dpi_core.conditioning import ConditioningConfig
from dpi_core.data import load_data
from dpi_core.interpolation import DPI
from dpi_core.noise_processes import FlowMatching, VPDiffusion
from dpi_core.parallel import Team, join
from dpi_core.runs import Run, train_run
from dpi_core.training import train

ROOT = Path(dpi_core.__file__).parents[1]
RECIPE = recipe_from_dict(
    {
        "name": "ring",
        "data": {"kind": "ring_mixture"},
        "shape": [2],
        "process": {"kind": "flow"},
        "backbone": {"kind": "mlp", "width": 16, "depth": 3},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 12, "batch_size": 32, "warmup_steps": 3, "log_every": 1, "save_every": 4},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)
exactly = {"rtol": 0, "atol": 0}


def of_kind(kind: str, **changes):
    return dataclasses.replace(RECIPE, name=f"ring-{kind}", conditioning=ConditioningConfig(kind), **changes)


def trained(recipe, folder):
    return train_run(recipe, load_data(recipe.data), folder)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def command(*arguments: str, **variables: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    program = [sys.executable, "-m", "dpi_core", *arguments]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def recipe_file(folder: Path, **training) -> Path:
    recipe = dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, **training))
    checkpoint.write_json(folder / "ring.json", recipe_to_dict(recipe))
    return folder / "ring.json"


def test_two_processes_take_the_steps_of_one(tmp_path):
    file = recipe_file(tmp_path, accumulate=2)
    places = ["--runs", str(tmp_path / "two"), "--out", str(tmp_path / "out")]
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}  # torchrun sets these
    team = [command("train", str(file), *places, RANK=rank, LOCAL_RANK=rank, **variables) for rank in "01"]
    main(["train", str(file), "--runs", str(tmp_path / "one"), "--out", str(tmp_path / "alone")])
    for process in team:
        _, messages = process.communicate(timeout=200)
        assert process.returncode == 0, messages
    expected = losses(tmp_path / "one" / "ring")
    assert len(expected) == 12 and min(expected) < max(expected) - 0.01
    assert_close(losses(tmp_path / "two" / "ring"), expected, rtol=1e-4, atol=0)
    together, alone = dpi_core.load(tmp_path / "out" / "ring"), dpi_core.load(tmp_path / "alone" / "ring")
    assert_close(dict(together.net.state_dict()), dict(alone.net.state_dict()), rtol=1e-3, atol=1e-5)
    assert together.metrics["training"]["hardware"].endswith("2 processes")


def test_a_killed_run_is_at_most_one_interval_back_and_never_torn(tmp_path):
    # Saving after each step, the process spends most of its time in saving, so that is where the signal finds it.
    file = recipe_file(tmp_path, steps=100_000, save_every=1)
    folder = tmp_path / "runs" / "ring"
    process = command("train", str(file), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"))
    deadline = time.monotonic() + 90
    while not (folder / "log.jsonl").is_file() or len(losses_so_far(folder)) < 12:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = losses_so_far(folder)
    state = checkpoint.load_training_state(folder / "state.safetensors")
    assert len(before) - 1 <= state.step <= len(before) + 1

    (folder / ".state.safetensors.torn").write_bytes(b"half a file")
    end = state.step + 5
    continued = dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, steps=100_000, save_every=1))
    run = train_iterator(continued, folder)
    after = [next(run).loss for _ in range(5)]
    run.close()
    assert not list(folder.glob(".state*"))
    whole = train_iterator(continued, tmp_path / "whole")
    expected = [next(whole).loss for _ in range(end)]
    whole.close()
    kept = min(len(before), state.step)
    assert before[:kept] == expected[:kept] and after == expected[state.step :]


def losses_so_far(folder: Path) -> list[float]:
    lines = (folder / "log.jsonl").read_text().split("\n")[:-1]
    return [json.loads(line)["loss"] for line in lines]


def train_iterator(recipe, folder):
    run = Run(folder, recipe)
    return train(build_denoiser(recipe), load_data(recipe.data), recipe.training, None, run.state)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, again = trained(RECIPE, tmp_path), trained(RECIPE, tmp_path)
    assert_close(dict(again.net.state_dict()), dict(first.net.state_dict()), **exactly)
    assert again.metrics["training"] == first.metrics["training"]


def test_a_finished_run_whose_log_is_gone_says_so(tmp_path):
    trained(RECIPE, tmp_path)
    log, *_ = tmp_path.rglob("log.jsonl")
    for left in (log.read_text()[:-9], ""):
        log.write_text(left)
        with pytest.raises(ValueError, match="finished run, but log.jsonl lacks its last line; restore it, or remove"):
            trained(RECIPE, tmp_path)
        assert log.read_text() == left


def test_a_run_of_an_older_version_that_lacked_a_key_goes_on(tmp_path):
    first = trained(RECIPE, tmp_path)
    [file] = tmp_path.rglob("recipe.json")
    written = json.loads(file.read_text())
    del written["training"]["accumulate"]
    file.write_text(json.dumps(written))
    assert trained(RECIPE, tmp_path).metrics["training"] == first.metrics["training"]


def test_another_recipe_does_not_go_on_in_the_same_folder(tmp_path):
    trained(RECIPE, tmp_path)
    with pytest.raises(ValueError, match="holds a run of another recipe; remove it, or give another folder"):
        trained(of_kind("embedding"), tmp_path)
    with pytest.raises(ValueError, match=r"the data have shape \(2,\), but ring expects \(3,\)"):
        trained(dataclasses.replace(RECIPE, shape=(3,)), tmp_path / "other")


@pytest.mark.parametrize("kind", ["dpi", "input_map", "embedding", "none"])
def test_a_trained_blind_network_is_the_start_of_every_conditioning(kind, tmp_path):
    blind = trained(of_kind("none"), tmp_path)
    start = warm_start(of_kind(kind), blind.denoiser, blind.recipe)
    x = torch.randn(5, 2)
    with torch.no_grad():
        for s in (0.0, 0.4, 1.0):
            assert_close(start.net(x, s), blind.net(x, s), rtol=1e-5, atol=1e-6)
    if isinstance(start.net, DPI):
        for name, value in blind.net.backbone.named_parameters():
            assert_close(start.net.theta0[name], value, **exactly)
            assert_close(start.net.theta1[name], value, **exactly)


def test_a_network_of_the_same_conditioning_gives_all_it_has(tmp_path):
    first = trained(of_kind("embedding"), tmp_path)
    start = warm_start(of_kind("embedding"), first.denoiser, first.recipe)
    assert_close(dict(start.net.state_dict()), dict(first.net.state_dict()), **exactly)


def test_a_start_that_does_not_fit_is_refused(tmp_path):
    dpi = trained(of_kind("dpi"), tmp_path)
    with pytest.raises(
        ValueError, match="ring-embedding cannot start from ring-dpi, whose conditioning 'dpi' is another"
    ):
        warm_start(of_kind("embedding"), dpi.denoiser, dpi.recipe)
    wider = dataclasses.replace(RECIPE.backbone, width=17)
    with pytest.raises(ValueError, match="ring-dpi cannot start from ring-dpi: the backbone is .*17"):
        warm_start(of_kind("dpi", backbone=wider), dpi.denoiser, dpi.recipe)
    blind = build_denoiser(of_kind("none"))
    assert blind.process == FlowMatching()
    with pytest.raises(ValueError, match="the target is VPDiffusion.* here and FlowMatching.* there"):
        warm_start(of_kind("dpi", process=VPDiffusion()), blind, of_kind("none"))


def test_the_command_starts_from_a_checkpoint_and_says_so(tmp_path):
    places = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    faster = dataclasses.replace(RECIPE.training, learning_rate=1e-2)
    for kind in ("none", "dpi"):
        checkpoint.write_json(tmp_path / f"{kind}.json", recipe_to_dict(of_kind(kind, training=faster)))
    main(["train", str(tmp_path / "none.json"), *places])
    main(["train", str(tmp_path / "dpi.json"), *places, "--init", str(tmp_path / "ring-none"), "--steps", "1"])
    about = dpi_core.load(tmp_path / "ring-dpi").metrics["training"]
    assert about["start"] == "ring-none"
    typed = f"python -m dpi_core train {tmp_path / 'dpi.json'} --init {tmp_path / 'ring-none'} --steps 1"
    assert about["command"] == typed
    warm, cold = losses(tmp_path / "runs" / "ring-dpi")[0], losses(tmp_path / "runs" / "ring-none")
    assert warm < cold[0] - 0.05


def test_one_process_alone_takes_whole_batches():
    team, batch = join("cpu"), torch.arange(5)
    assert type(team) is Team and team.leads and team.device == torch.device("cpu")
    assert torch.equal(team.share(batch), batch) and torch.equal(team.mean(batch), batch)
