"""The Layers page without a browser: what opens, what its numbers are, and that its lines of Python reproduce them."""

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.components.layers import LayerDetail, LayersState, LayerTable, Statistic, _parse, pack_detail
from app.figures import attribution, layers, one_layer, pinning
from app.records import Inputs, LayerDetailRequest
from app.services import stored

MODELS = ["digits-vp-dpi", "mixture2d-flow-dpi"]
SHIPPED = [*MODELS, "digits-vp-none", "fashion-flow-dpi"]
MOST = {"digits-vp-dpi": 32, "mixture2d-flow-dpi": 1024}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return stored.read_model(request.param)


def draw(name):
    from app.services import cache
    from app.views import layers

    layers.page(cache.model(name), 0, "cpu")


def open_page(name, **query):
    app = AppTest.from_function(draw, kwargs={"name": name}, default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception[0].stack_trace
    return app


def run(lines):
    names = {}
    exec(lines, names)
    return names


@pytest.mark.parametrize("name", SHIPPED)
def test_it_opens_on_what_is_stored(name):
    app = open_page(name)
    assert not app.error
    if stored.read_model(name).layers is None:
        assert any("Nothing is stored for this model" in caption.value for caption in app.caption)
    else:
        assert any("layers carry 95 % of the" in text.value for text in app.markdown) == name.endswith("dpi")


def test_the_sentence_names_the_layers_that_were_held_last(model):
    result = model.layers
    sentence = layers.enough_in_words(result, len(result.names))
    assert sentence.startswith(f"These {result.enough} of {len(result.names)} layers carry 95 %")
    kept = result.order[len(result.order) - result.enough :]
    assert all(f"`{name}`" in sentence for name in kept)
    loss = dict(zip(result.kept.tolist(), result.kept_loss[:, 0].tolist(), strict=True))
    assert loss[result.enough] <= 0.05 * loss[0] + 1e-6


def in_link(app, key):
    """AppTest holds what a test has set as text, and what the page has written as a list."""
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def test_the_link_chooses_what_exists_and_nothing_else():
    app = open_page("digits-vp-dpi", layer="head", heat="cka", rows="value", sample="2", shown="change", t="0.4")
    assert in_link(app, "layer") == "head" and in_link(app, "heat") == "cka"
    app = open_page("digits-vp-dpi", layer="nowhere", heat="x", sample="900")
    result = stored.read_model("digits-vp-dpi").layers
    assert in_link(app, "layer") == result.most
    assert in_link(app, "sample") == "0"


def test_every_statistic_is_the_stored_one(model):
    result = model.layers
    found = {each.key: each for each in layers.statistics(result)}
    np.testing.assert_array_equal(found["cka"].values, result.cka[:, :, 0])
    np.testing.assert_array_equal(found["pin_mean"].values, result.pinned[result.holds.index("mean")])
    assert set(found) == {
        "change", "cka", "cka_path", "pin_theta0", "pin_theta1", "pin_mean", "attribution", "derivative", "moved", "relative",
    }  # fmt: skip
    for each in found.values():
        assert each.range[0] < each.range[1] and each.caption.endswith(".")
        assert not each.diverging or each.range[0] == -each.range[1]


def test_charts_hold_the_numbers_and_their_sums(model):
    result, inputs = model.layers, Inputs("held-out", MOST[model.name], 0)
    chart = pinning.kept_layers_chart(model, result, inputs, "cpu")
    np.testing.assert_allclose([row[3] for row in chart.rows], result.kept_loss[:, 0])
    chart = pinning.pins_chart(model, result, inputs, "cpu", True)
    worst = [max(row[1], row[4], row[7]) for row in chart.rows]
    assert worst == sorted(worst, reverse=True)
    chart = attribution.completeness_chart(model, result, inputs, "cpu", 0.5)
    gap = np.array([abs(row[2] - row[1]) / max(abs(row[1]), result.floor) for row in chart.rows])
    np.testing.assert_allclose(gap, result.completeness, atol=1e-4)


def test_lines_of_attribution_reproduce_the_bars(model, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    inputs = Inputs("held-out", MOST[model.name], 0)
    chart = attribution.attribution_chart(model, model.layers, inputs, "cpu", 0.5, False)
    np.testing.assert_allclose(run(chart.lines)["values"], [row[1] for row in chart.rows], atol=1e-3)


def test_lines_of_a_layer_reproduce_its_figures(model, engine, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    job = engine.submit("a", LayerDetailRequest(model.key, Inputs("held-out", 16, 0), "head", "cpu"))
    assert job.wait(120) and job.error == "", job.error
    detail = job.result
    chart = one_layer.spectrum_chart(model, detail)
    values = np.array([row[1:] for row in chart.rows]).T
    np.testing.assert_allclose(run(chart.lines)["values"], values, rtol=1e-3, atol=1e-5)
    shown = layers.layer_detail(model, detail, 0)
    assert shown.lam_s is not None and len(shown.lam_s) == 101
    assert pack_detail(shown)[:4] != b"\0\0\0\0"


def test_a_layer_of_one_set_has_no_other_end(engine):
    model = stored.read_model("digits-vp-none")
    job = engine.submit("a", LayerDetailRequest(model.key, Inputs("held-out", 16, 0), "head", "cpu"))
    assert job.wait(120) and job.error == "", job.error
    shown = layers.layer_detail(model, job.result, 0)
    assert shown.theta1 is None and shown.activations0 is None and shown.activations is not None


def test_the_table_refuses_what_it_cannot_draw():
    one = Statistic("a", "A", "", "How.", np.array([0.5]), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="a has shape"):
        LayerTable("m", ["x"], ["x"], ["Linear"], [1], (one,))
    with pytest.raises(ValueError, match="holds NaN"):
        LayerDetail("x", 0, "", "", np.array([np.nan]), None, None, None, np.array([0.0]), ("",), None, None, "")


GOOD = {"revision": "r", "s": 0.5, "layer": "x", "statistic": "cka", "order": "depth", "sample": 1, "shown": "value"}


@pytest.mark.parametrize(
    "change",
    [{"revision": "old"}, {"s": 2}, {"s": True}, {"order": "x"}, {"sample": -1}, {"sample": 0.5}, {"layer": 3}],
)
def test_positions_that_are_none_are_ignored(change):
    assert _parse(GOOD | change, "r") is None
    assert _parse(GOOD, "r") == LayersState(0.5, "x", "cka", "depth", 1, "value")
