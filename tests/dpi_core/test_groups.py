"""A λ for each group of layers: from the recipe to the network, and through a checkpoint."""

import json
from dataclasses import replace

import pytest
import torch

import dpi_core
from dpi_core.build import build_denoiser, load_recipe, recipe_from_dict, recipe_to_dict
from dpi_core.conditioning import ConditioningConfig, ScheduleConfig
from dpi_core.lambda_schedules import FixedSchedule
from dpi_core.model import Model

GROUPS = {"first": ("head*",), "last": ("tail*", "head*")}


def recipe(**changes):
    base = load_recipe("mixture2d-flow-dpi")
    small = replace(base.backbone, width=8, depth=2)
    schedule = ScheduleConfig(n_knots=9, init_std=1.0)
    return replace(base, backbone=small, conditioning=ConditioningConfig(schedule=schedule, groups=GROUPS, **changes))


def moved(net, seed=0):
    """The same network with its two sets apart."""
    net.separate(0.5, torch.Generator().manual_seed(seed))
    return net


def test_every_group_has_a_curve_and_the_first_match_decides():
    net = build_denoiser(recipe()).net
    assert net.group_names == ("first", "last", "rest")
    lam = net.lam(torch.linspace(0, 1, 5))
    assert lam.shape == (5, 3) and (lam[2, 0] - lam[2, 1]).abs() > 1e-3
    moved(net)
    here = net.effective_parameters(0.5)
    for group, name in enumerate(("head.weight", "tail.weight", "hidden.0.weight")):
        start, end = net.theta0[name], net.theta1[name]
        torch.testing.assert_close(here[name], torch.lerp(start, end, net.lam(0.5)[group].float()))


def test_groups_go_through_json_and_through_a_checkpoint(tmp_path):
    written = recipe_to_dict(recipe())
    assert recipe_from_dict(json.loads(json.dumps(written))) == recipe()
    model = Model(build_denoiser(recipe()), recipe(), {})
    moved(model.net)
    found = dpi_core.load(dpi_core.save(model, tmp_path / "grouped"))
    assert found.recipe == recipe()
    x = torch.randn(3, 2)
    torch.testing.assert_close(found.net(x, 0.4), model.net(x, 0.4), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": "head*"}, r"conditioning.groups.a is 'head\*', but has to be a list"),
        (["head*"], r"conditioning.groups is \['head\*'\], but has to be an object"),
        ({"a": [1]}, r"conditioning.groups.a\[0\] is 1, but has to be of type str"),
    ],
)
def test_groups_that_are_none_are_refused_when_the_recipe_is_read(groups, message):
    written = json.loads(json.dumps(recipe_to_dict(recipe())))
    written["conditioning"]["groups"] = groups
    with pytest.raises(ValueError, match=message):
        recipe_from_dict(written)


def test_a_group_without_parameters_is_named():
    with pytest.raises(ValueError, match=r"the group 'none' .* holds no parameter"):
        build_denoiser(replace(recipe(), conditioning=ConditioningConfig(groups={"none": ("nothing*",)})))


def test_groups_need_curves_that_can_differ():
    with pytest.raises(ValueError, match="schedule.kind is 'linear'; choose \"softmax\", or remove the groups"):
        ConditioningConfig(schedule=ScheduleConfig("linear"), groups=GROUPS)
    with pytest.raises(ValueError, match="conditioning.groups is set, but is without effect for the kind 'none'"):
        ConditioningConfig("none", groups=GROUPS)


def test_drawn_curves_stand_in_for_those_of_the_groups():
    net = moved(build_denoiser(recipe()).net)
    rows = [(0.0, 1.0, 0.25), (0.5, 0.0, 0.75)]
    with net.using(FixedSchedule(rows)):
        torch.testing.assert_close(net.lam(0.5), torch.tensor([0.25, 0.5, 0.5], dtype=torch.float64))
        torch.testing.assert_close(net.effective_parameters(0.0)["tail.bias"], net.theta1["tail.bias"])
        torch.testing.assert_close(net.effective_parameters(0.0)["head.bias"], net.theta0["head.bias"])
    assert net.lam(0.5)[0] != 0.25
    with (
        pytest.raises(ValueError, match="n_groups=2, but the groups are first, last, rest"),
        net.using(FixedSchedule([(0.0, 1.0), (1.0, 0.0)])),
    ):
        pass


@pytest.mark.parametrize(
    ("table", "message"),
    [([(0.0, 1.0)], "at least 2 numbers, or of rows"), ([(0.0, 1.5), (0.0, 1.0)], r"λ = 1.5 is not in \[0, 1\]")],
)
def test_tables_that_are_none_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        FixedSchedule(table)
