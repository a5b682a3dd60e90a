"""A second model on the Parameters page: what is held against the first, what is not, and the lines behind both."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import dpi_core
from app.figures.beside import Beside, judged_alike, overlaid, second_headlines
from app.figures.distances import along_chart
from app.figures.paths import kept_chart
from app.records import Inputs, ParametersRequest
from app.services import stored
from app.services.inference import _kind

FLOW, MLP = (stored.read_model(name) for name in ("mixture2d-flow-dpi", "mixture2d-mlp-dpi"))
DIGITS, FASHION = (stored.read_model(name) for name in ("digits-vp-dpi", "fashion-flow-dpi"))
JUDGED = Inputs("held-out", DIGITS.parameters.landscape.samples, 0)


def draw(name):
    from app.services import cache
    from app.views import parameters

    parameters.page(cache.model(name), 0, "cpu")


def open_page(name, **query):
    app = AppTest.from_function(draw, kwargs={"name": name}, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception[0].stack_trace
    return app


def figures(app):
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_a_model_of_other_data_is_held_against_the_first_where_that_means_something(unescaped):
    app = open_page("digits-vp-dpi", beside="fashion-flow-dpi", parameters_tab="Path")
    values = [metric.value for metric in app.metric]
    weights = FASHION.parameters.weights
    assert values[4] == ("saturated" if weights.saturated else "spread out") and values[5] == "–"
    assert values[6] == f"{weights.relative[0]:.2f}" and values[7] == f"{weights.angle[0]:.1f}°"
    said = [unescaped(caption.value) for caption in app.caption]
    assert any("regret, x̂0 along the path, kept blends and blended outputs do not" in each for each in said)
    path, kept = figures(app)
    dashed = [trace for trace in path["data"] if trace.get("line", {}).get("dash") == "dash"]
    assert [trace["name"] for trace in dashed] == ["parameters ‖θ(s) − θ0‖, fashion-flow-dpi"]
    assert not any("fashion" in str(trace.get("name")) for trace in kept["data"])


def test_a_model_with_one_set_has_no_path_to_compare(unescaped):
    app = open_page("digits-vp-dpi")
    two_sets = [name for name in stored.model_names() if name.endswith("-dpi") and name != "digits-vp-dpi"]
    assert app.sidebar.selectbox[0].options == ["none", *two_sets]
    assert len(app.metric) == 4


def test_models_of_the_same_data_are_held_against_one_another_in_errors_too():
    assert judged_alike(MLP, MLP) and not judged_alike(DIGITS, FASHION)
    beside = Beside(FLOW, FLOW.parameters, JUDGED, same_samples=True)
    assert second_headlines(beside)[1].value.endswith(" dB")
    chart = kept_chart(MLP, MLP.parameters, JUDGED, "cpu")
    both = overlaid(MLP, chart, beside, lambda *about: kept_chart(*about, "cpu"))
    solid, dashed = both.figure.data
    np.testing.assert_allclose(dashed.y, np.maximum(FLOW.parameters.paths.kept_loss[:, 0], 1e-4))
    assert dashed.line.dash == "dash" and solid.line.dash is None and chart.figure.data[0].name is None
    assert [row[0] for row in both.rows] == [MLP.name] * len(chart.rows) + [FLOW.name] * len(chart.rows)


def test_the_lines_of_both_models_reproduce_both_lines(monkeypatch):
    monkeypatch.chdir(stored.CHECKPOINTS.parent)
    beside = Beside(FLOW, FLOW.parameters, JUDGED, same_samples=False)

    def draw_along(model, result, inputs):
        return along_chart(model, result.weights, "distance", 0.5)

    first = draw_along(MLP, MLP.parameters, JUDGED)
    both = overlaid(MLP, first, beside, draw_along, lambda trace: trace.name == "total")
    names = {}
    exec(both.lines, names)
    np.testing.assert_allclose(names["values"], both.figure.data[-1].y, rtol=1e-5)
    assert both.figure.data[-1].name == f"total, {FLOW.name}" and len(both.figure.data) == len(first.figure.data) + 1


@pytest.mark.parametrize("kind", ["samples", "held-out"])
def test_the_second_models_lines_take_the_samples_of_the_first(monkeypatch, kind):
    monkeypatch.chdir(stored.CHECKPOINTS.parent)
    inputs = Inputs(kind, 4, 3)
    beside = Beside(FLOW, FLOW.parameters, inputs, same_samples=True)
    chart = kept_chart(MLP, MLP.parameters, inputs, "cpu")
    both = overlaid(MLP, chart, beside, lambda *about: kept_chart(*about, "cpu"))
    second = both.lines.split(f"# the same of {FLOW.name}\n")[1].split("\neps")[0]
    names = {}
    exec(second, names)
    first = dpi_core.load(MLP.key.folder)
    expected = first.sample(4, seed=3).x if kind == "samples" else None
    if expected is None:
        from dpi_core.data import load_data

        expected = load_data(first.recipe.data).held_out_batch(4, seed=3)
    torch.testing.assert_close(names["x0"], expected)
    assert names["model"].recipe.name == FLOW.recipe["name"]


def test_the_second_model_is_waited_for_beside_the_first():
    first = ParametersRequest(MLP.key, JUDGED, "cpu")
    second = ParametersRequest(FLOW.key, replace(JUDGED, of=MLP.key), "cpu")
    assert _kind(first) != _kind(second), "a request replaces the older one of its kind"
