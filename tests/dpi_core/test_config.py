"""Configs: strict reading, round trips through JSON, and messages that name the key."""

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from dpi_core.build import RECIPES, load_recipe, recipe_from_dict, recipe_to_dict
from dpi_core.config import from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    width: int
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    pair: tuple[int, float] = (1, 2.0)
    layers: tuple[Inner, ...] = ()
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    scope: str | tuple[str, ...] = "*"
    flag: bool = False


FULL = Outer("x", Inner(3, 0.25), (4, 5.0), (Inner(1), Inner(2, 2.0)), "slow", 7, ("a", "b"), True)


@pytest.mark.parametrize("config", [FULL, Outer("y", Inner(1))])
def test_a_config_goes_round_through_json(config):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


def test_an_integer_is_read_where_a_float_is_asked_for():
    rate = from_dict(Inner, {"width": 1, "rate": 2}).rate
    assert (rate, type(rate)) == (2.0, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nam": "x"}, "config has the unknown key 'nam'; did you mean 'name'?"),
        ({"qqqq": 1}, "unknown key 'qqqq'; known keys are flag, inner, layers"),
        ({"inner": {"widht": 3}}, "config.inner has the unknown key 'widht'; did you mean 'width'?"),
        ({"inner": {}}, "config.inner lacks the key 'width', which Inner needs"),
        ({"inner": 3}, "config.inner is 3, but has to be an object with the keys of Inner"),
        ({"layers": [{"width": 1}, {"width": "2"}]}, r"config.layers\[1\].width is '2', but has to be of type int"),
        ({"layers": "ab"}, "config.layers is 'ab', but has to be a list"),
        ({"pair": [1]}, "config.pair has 1 entries, but has to have 2"),
        ({"mode": "medium"}, "config.mode is 'medium', but has to be one of 'fast', 'slow'"),
        ({"mode": ["fast"]}, "has to be one of 'fast', 'slow'"),
        ({"limit": 1.5}, "config.limit is 1.5, but has to be of type int"),
        ({"limit": True}, "config.limit is True, but has to be of type int"),
        ({"flag": 1}, "config.flag is 1, but has to be of type bool"),
        ({"inner": {"width": 1, "rate": False}}, "config.inner.rate is False, but has to be of type float"),
        ({"inner": {"width": 1, "rate": None}}, "config.inner.rate is None"),
        ({"scope": 3}, "config.scope"),
        ({"name": None}, "config.name is None, but has to be of type str"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, {"name": "x", "inner": {"width": 1}, **change})


# Recipes ---------------------------------------------------------------------------------------------------------

SHIPPED = sorted(file.stem for file in RECIPES.glob("*.json"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_goes_round_and_bears_its_files_name(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


def shipped() -> dict:
    return json.loads((RECIPES / f"{SHIPPED[0]}.json").read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainig": {}}, "unknown: trainig"),
        ({"name": "../up"}, "name is '../up', but has to be made of letters, digits, - and _"),
        ({"name": ""}, "name is ''"),
        ({"shape": [0, 8]}, r"shape is \[0, 8\], but has to be a list of positive integers"),
        ({"shape": []}, r"shape is \[\]"),
        ({"shape": 8}, "shape is 8"),
        ({"process": {"kind": "heat"}}, "process.kind is 'heat', but has to be one of awgn, edm, flow, vp"),
        ({"process": {"kind": ["vp"]}}, r"process.kind is \['vp'\]"),
        (
            {"process": {"kind": "vp", "scheduel": "linear"}},
            "process has the unknown key 'scheduel'; did you mean 'schedule'?",
        ),
        ({"backbone": None}, "backbone.kind is None"),
        ({"backbone": {"kind": "mlp", "width": -1}}, "MLPConfig.width is -1"),
        ({"conditioning": {"kind": "film"}}, "conditioning.kind is 'film'"),
        ({"training": {"steps": 0}}, "training.steps is 0"),
        ({"training": {"learning_rat": 1.0, "steps": 1}}, "did you mean 'learning_rate'?"),
        ({"data": {"kind": "faces"}}, "DataConfig.kind is 'faces'"),
        ({"sampling": {"sampler": "leapfrog"}}, "sampling.sampler is 'leapfrog'"),
    ],
)
def test_a_recipe_with_a_wrong_value_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict({**shipped(), **change})


def test_a_recipe_that_lacks_a_section_or_is_none_is_refused():
    without = {key: value for key, value in shipped().items() if key != "process"}
    with pytest.raises(ValueError, match="missing: process, unknown: none"):
        recipe_from_dict(without)
    with pytest.raises(ValueError, match="a recipe has the keys"):
        recipe_from_dict([1])
    with pytest.raises(ValueError, match=f"there is no recipe 'nothing'.*{SHIPPED[0]}"):
        load_recipe("nothing")


def test_a_recipe_file_that_is_not_json_is_refused(tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text("{,")
    with pytest.raises(ValueError, match="recipe.json"):
        load_recipe(str(file))
