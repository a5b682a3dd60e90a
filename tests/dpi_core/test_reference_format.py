"""Weights of the reference implementation: its convention written down once more, independently, as the oracle."""

import dataclasses
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

import dpi_core
from dpi_core import checkpoint
from dpi_core.backbones import DnCNNConfig, DRUNetConfig
from dpi_core.build import build_denoiser, load_recipe, recipe_from_dict, recipe_to_dict
from dpi_core.card import model_card
from dpi_core.cli import main
from dpi_core.conditioning import ConditioningConfig, ScheduleConfig
from dpi_core.model import Model
from dpi_core.reference_format import export_reference, import_reference
from dpi_core.state_dicts import read_state_dict

exactly = {"rtol": 0, "atol": 0}
RECIPE = recipe_from_dict(
    {
        "name": "ring-flow-dpi",
        "data": {"kind": "ring_mixture"},
        "shape": [2],
        "process": {"kind": "flow"},
        "backbone": {"kind": "mlp", "width": 8, "depth": 2},
        "conditioning": {"kind": "dpi"},
        "training": {"steps": 3},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)
IMAGES = dataclasses.replace(RECIPE, shape=(1, 8, 8), backbone=DRUNetConfig(channels=(4, 8), blocks=1))


class LambdaTable(nn.Module):
    """The table of section 3.2, as the reference keeps it."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.randn(n))

    def at(self, t: float) -> torch.Tensor:
        p = torch.softmax(self.phi, 0)
        index = round(t * (len(p) - 1))
        return p[: index + 1].sum() if index > 0 else torch.zeros(())


class TwoLinear(nn.Module):
    """A linear layer of the reference: `weight` is the λ = 1 end, `weight_copy` the λ = 0 end."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        for name, shape in (("weight", (n_out, n_in)), ("bias", (n_out,))):
            setattr(self, name, nn.Parameter(torch.randn(shape)))
            setattr(self, f"{name}_copy", nn.Parameter(torch.randn(shape)))

    def forward(self, x, lam):
        weight = (1 - lam) * self.weight_copy + lam * self.weight
        return F.linear(x, weight, (1 - lam) * self.bias_copy + lam * self.bias)


class ReferenceMLP(nn.Module):
    """`dpi_core`'s MLP of width 8 and depth 2, written in the reference's way."""

    def __init__(self, n_knots: int) -> None:
        super().__init__()
        self.lambda_table = LambdaTable(n_knots)
        self.head, self.tail = TwoLinear(2, 8), TwoLinear(8, 2)
        self.hidden = nn.ModuleList([TwoLinear(8, 8)])

    def forward(self, x, t):
        lam = self.lambda_table.at(t)
        h = F.silu(self.head(x, lam))
        for layer in self.hidden:
            h = h + F.silu(layer(h, lam))
        return self.tail(h, lam)


def trained(recipe=RECIPE, seed=0, **conditioning):
    """A model whose sets and curve were drawn at random, read at the nearest entry."""
    schedule = ScheduleConfig(n_knots=11, rounding="nearest")
    recipe = dataclasses.replace(recipe, conditioning=ConditioningConfig("dpi", schedule=schedule, **conditioning))
    denoiser, generator = build_denoiser(recipe).eval(), torch.Generator().manual_seed(seed)
    for value in [*denoiser.parameters(), *denoiser.buffers()]:
        if value.is_floating_point():
            value.data = torch.rand(value.shape, generator=generator)
    return Model(denoiser, recipe)


# The convention --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_knots", [2, 10, 1000])
def test_an_imported_network_answers_as_the_reference_does(n_knots):
    reference = ReferenceMLP(n_knots)
    model, report = import_reference(RECIPE, reference.state_dict())
    assert report.complete and report.table == "lambda_table.phi" and len(report.two_sets) == 6
    x = torch.randn(5, 2)
    for t in (0.0, 0.0004, 0.26, 0.5, 0.73, 0.9999, 1.0):
        with torch.no_grad():
            assert_close(model.net(x, t), reference(x, t), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_knots", [2, 3, 11])
def test_a_flow_that_begins_at_the_noise_end_is_turned_round(n_knots):
    reference = ReferenceMLP(n_knots)
    model, report = import_reference(RECIPE, reference.state_dict(), noise_first=True)
    assert report.complete
    x = torch.randn(5, 2)
    for t in torch.linspace(0, 1, n_knots).tolist():
        with torch.no_grad():
            assert_close(model.net(x, 1 - t), reference(x, t), rtol=1e-5, atol=1e-6)


def test_the_reference_answers_as_an_exported_network_does():
    model, reference = trained(), ReferenceMLP(11)
    reference.load_state_dict(export_reference(model.net, "lambda_table.phi"), strict=True)
    x = torch.randn(5, 2)
    for t in (0.0, 0.31, 1.0):
        with torch.no_grad():
            assert_close(reference(x, t), model.net(x, t), rtol=1e-5, atol=1e-6)


WITH_BUFFERS = dataclasses.replace(IMAGES, backbone=DnCNNConfig(channels=4, depth=3, batch_norm=True))


@pytest.mark.parametrize(
    ("recipe", "scope"),
    [
        (RECIPE, "*"),
        (RECIPE, "biases"),
        (IMAGES, "*"),
        (IMAGES, "first_last"),
        (WITH_BUFFERS, "*"),
        (WITH_BUFFERS, "norms"),
    ],
)
def test_weights_come_back_to_the_bit(recipe, scope):
    model = trained(recipe, scope=scope)
    back, report = import_reference(model.recipe, export_reference(model.net))
    assert report.complete
    assert back.recipe == model.recipe
    assert_close(dict(back.net.state_dict()), dict(model.net.state_dict()), **exactly)
    x = torch.randn(2, *recipe.shape)
    assert_close(back.net(x, 0.37), model.net(x, 0.37), rtol=0, atol=1e-6)


def test_tied_parameters_stand_under_all_their_names():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    net = dpi_core.DPI(Tied())
    net.separate(1.0, torch.Generator().manual_seed(0))
    tensors = export_reference(net)
    assert {"a.weight", "a.weight_copy", "b.weight", "b.weight_copy", "b.bias", "theta"} <= set(tensors)
    assert_close(tensors["b.weight_copy"], net.theta0["a.weight"].detach(), **exactly)


@pytest.mark.parametrize("prefix", ["module.", "net.backbone."])
def test_what_wraps_the_network_is_looked_through(prefix):
    model = trained()
    tensors = {prefix + name: value for name, value in export_reference(model.net).items()}
    back, report = import_reference(RECIPE, tensors)
    assert report.complete and report.prefix == prefix
    assert_close(dict(back.net.state_dict()), dict(model.net.state_dict()), **exactly)


def test_a_table_that_every_layer_shares_is_one_table():
    tensors = export_reference(trained().net)
    assert import_reference(RECIPE, tensors | {"head.lambda_table.phi": tensors["theta"].clone()})[1].complete
    with pytest.raises(ValueError, match="head.theta differ, but the whole network shares one λ"):
        import_reference(RECIPE, tensors | {"head.theta": tensors["theta"] + 1})


# The report ------------------------------------------------------------------------------------------------------


def test_the_report_says_what_did_not_match_and_why():
    tensors = export_reference(trained().net)
    tensors["tail.weight"] = torch.zeros(3, 8)
    tensors["head.bias"] = torch.zeros(8, dtype=torch.int64)
    tensors["extra.weight"] = torch.zeros(2)
    del tensors["hidden.0.weight"], tensors["hidden.0.bias_copy"]
    model, report = import_reference(RECIPE, tensors)
    assert not report.complete
    assert report.misfits == {
        "tail.weight": "(3, 8) in the file, but (2, 8) in the network",
        "head.bias": "torch.int64 in the file, but torch.float32 in the network",
        "hidden.0.weight": "not in the file",
    }
    assert report.unused == {"extra.weight": "the network has no such parameter"}
    assert report.one_set == ["hidden.0.bias"] and report.two_sets == ["head.weight", "tail.bias"]
    assert_close(model.net.theta0["hidden.0.bias"], model.net.theta1["hidden.0.bias"], **exactly)
    for line in (
        "  hidden.0.weight: not in the file",
        "  extra.weight: the network has no such parameter",
        "two sets: 2",
    ):
        assert line in str(report)


def test_a_second_set_outside_the_scope_is_not_dropped_in_silence():
    biases = dataclasses.replace(RECIPE, conditioning=ConditioningConfig("dpi", scope="biases"))
    _, report = import_reference(biases, export_reference(trained().net))
    assert set(report.unused) == {"head.weight_copy", "hidden.0.weight_copy", "tail.weight_copy"}
    assert "outside the scope" in report.unused["head.weight_copy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("theta"), "there is no table of λ; its name has to end in theta or lambda_table.phi"),
        (
            lambda t: t.update(theta=torch.zeros(3, 3)),
            r"theta has shape \(3, 3\), but a table of λ is a row of at least 2",
        ),
        (
            lambda t: t.update(theta=torch.zeros(1).expand(10**12)),
            "theta has 1,000,000,000,000 knots.*DPI_MAX_KNOTS",
        ),
        (lambda t: t.update(theta=torch.full((5,), float("nan"))), "theta is of torch.float32 or not finite"),
        (lambda t: [t.pop(n) for n in [*t] if n.endswith("_copy")], "the weights of a plain network"),
    ],
)
def test_what_is_not_such_a_file_is_refused(change, message):
    tensors = export_reference(trained().net)
    change(tensors)
    with pytest.raises(ValueError, match=message):
        import_reference(RECIPE, tensors)


@pytest.mark.parametrize(
    ("conditioning", "message"),
    [
        ({"kind": "dpi", "schedule": {"kind": "linear"}}, "λ is fixed"),
        ({"kind": "dpi", "groups": {"ends": ["head*", "tail*"]}}, "λ differs between groups"),
        ({"kind": "dpi", "schedule": {"least_slope": 0.5}}, "λ has a least slope"),
    ],
)
def test_a_curve_the_convention_has_no_place_for_is_not_exported(conditioning, message):
    denoiser = build_denoiser(recipe_from_dict({**recipe_to_dict(RECIPE), "conditioning": conditioning}))
    with pytest.raises(ValueError, match=message):
        export_reference(denoiser.net)


# Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("table", ["theta", "lambda_table.phi"])
def test_the_commands_go_round_to_the_bit(ending, table, tmp_path, capsys):
    model = trained()
    folder, recipe, file = tmp_path / "mine", tmp_path / "recipe.json", tmp_path / f"reference.{ending}"
    dpi_core.save(model, folder)
    checkpoint.write_json(recipe, recipe_to_dict(RECIPE))
    main(["export", str(folder), "--to", "reference", "--table", table, "--out", str(file)])
    assert table in read_state_dict(file)
    main(["import", str(file), "--onto", str(recipe), "--name", "back", "--out", str(tmp_path)])
    assert "two sets: 6 parameters" in capsys.readouterr().out
    back = dpi_core.load(tmp_path / "back")
    assert_close(dict(back.net.state_dict()), dict(model.net.state_dict()), **exactly)
    card = model_card(back)
    assert "The weights were imported" in card and f"import reference.{ending} --onto" in card
    assert "MIT" not in card and "the licence is for their owner to state" in card


def test_nothing_is_written_for_a_file_that_does_not_match_unless_asked(tmp_path, capsys):
    file = tmp_path / "reference.safetensors"
    tensors = export_reference(trained().net)
    save_file(tensors | {"extra.weight": torch.zeros(2)}, file)
    checkpoint.write_json(tmp_path / "recipe.json", recipe_to_dict(RECIPE))
    arguments = ["import", str(file), "--onto", str(tmp_path / "recipe.json"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(arguments)
    printed = capsys.readouterr()
    assert "extra.weight: the network has no such parameter" in printed.out and "--partial" in printed.err
    assert not (tmp_path / RECIPE.name).exists()
    main([*arguments, "--partial", "--noise-first", "--name", "part"])
    imported = dpi_core.load(tmp_path / "part").metrics["imported"]
    assert imported["complete"] is False
    flags = f"--onto {tmp_path / 'recipe.json'} --name part --noise-first --partial"
    assert imported["command"] == f"python -m dpi_core import reference.safetensors {flags}"


def test_no_checkpoint_is_replaced_by_an_import(tmp_path, capsys):
    file = tmp_path / "weights.safetensors"
    save_file(export_reference(trained().net), file)
    checkpoint.write_json(tmp_path / "recipe.json", recipe_to_dict(RECIPE))
    arguments = ["import", str(file), "--onto", str(tmp_path / "recipe.json"), "--out", str(tmp_path)]
    main(arguments)
    before = (tmp_path / RECIPE.name / "model.safetensors").stat()
    with pytest.raises(SystemExit):
        main(arguments)
    assert "is a checkpoint already; give the new one another name by --name" in capsys.readouterr().err
    assert (tmp_path / RECIPE.name / "model.safetensors").stat() == before
    main([*arguments, "--name", "another"])
    assert dpi_core.load(tmp_path / "another").recipe.name == "another"


def test_a_shipped_model_is_exported_and_read_back(tmp_path):
    root = Path(dpi_core.__file__).parents[1] / "checkpoints"
    model = dpi_core.load(root / "mixture2d-flow-dpi")
    back, report = import_reference(load_recipe("mixture2d-flow-dpi"), export_reference(model.net))
    assert report.complete
    assert_close(dict(back.net.theta0), dict(model.net.theta0), **exactly)


class Malicious:
    """Runs code where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def compressed(file: Path) -> None:
    torch.save({"a.weight": torch.zeros(1000)}, file)
    with zipfile.ZipFile(file) as stored:
        content = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def with_a_damaged_list(file: Path) -> None:
    """The list of the archive's entries is one byte too long; its end is intact."""
    torch.save({"a.weight": torch.zeros(10)}, file)
    content = file.read_bytes()
    at = content.index(b"PK\x01\x02") + 2
    file.write_bytes(content[:at] + content[at - 1 :])


HOSTILE = {
    "a damaged archive": (lambda f, marker: with_a_damaged_list(f), "not a file of plain tensors"),
    "a pickle": (lambda f, marker: f.write_bytes(pickle.dumps(Malicious(marker))), "not a file of plain tensors"),
    "code beside tensors": (
        lambda f, marker: torch.save({"a.weight": torch.zeros(2), "b": Malicious(marker)}, f),
        "not a file of plain tensors",
    ),
    "a whole module": (lambda f, marker: torch.save(nn.Linear(2, 2), f), "not a file of plain tensors"),
    "an empty file": (lambda f, marker: f.write_bytes(b""), "not a file of plain tensors"),
    "compressed": (lambda f, marker: compressed(f), "is compressed, which torch.save never does"),
    "no network": (lambda f, marker: torch.save({"step": 3}, f), "holds no state dict of a network"),
    "several": (
        lambda f, marker: torch.save({key: {"a.weight": torch.zeros(2)} for key in ("model", "ema")}, f),
        "holds the state dicts model, ema, and none is chosen; choose one by --key",
    ),
}


@pytest.mark.parametrize(("write", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_that_is_no_state_dict_gives_one_sentence_and_runs_nothing(write, message, tmp_path):
    file = tmp_path / "weights.pt"
    write(file, tmp_path / "owned")
    with pytest.raises(ValueError, match=message) as caught:
        read_state_dict(file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_one_of_several_state_dicts_is_chosen_by_its_key(tmp_path):
    torch.save(
        {"step": 7, "ema": {"a.weight": torch.ones(2)}, "model": {"a.weight": torch.zeros(2)}}, tmp_path / "w.pt"
    )
    assert_close(read_state_dict(tmp_path / "w.pt", "ema"), {"a.weight": torch.ones(2)}, **exactly)


@pytest.mark.parametrize(
    ("name", "message"), [("missing.pt", "there is no file"), ("w.npz", "ends in '.npz'; give a file that ends in")]
)
def test_other_files_are_named(name, message, tmp_path):
    (tmp_path / "w.npz").touch()
    with pytest.raises(ValueError, match=message):
        read_state_dict(tmp_path / name)
