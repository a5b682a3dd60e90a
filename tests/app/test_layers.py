"""The Layers page without a browser: what opens, what its numbers are, and that its lines of Python reproduce them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from app.components.layers import LayerDetail, LayersState, LayerTable, Statistic, _parse, pack_detail, pack_table
from app.components.scrubber import blob_hash
from app.figures import attribution, distances, layers, one_layer, pinning, receptive_field
from app.figures.reproduce import stored_inputs
from app.records import Inputs, LayerDetailRequest, LayersRequest, ReceptiveFieldRequest
from app.services import stored

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

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


@pytest.mark.parametrize("name", MODELS)
def test_every_chart_says_what_its_axes_are(name, axes_without_title):
    assert axes_without_title(open_page(name)) == []


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
    # The loss is that of this network frozen, which is no network trained with one set.
    assert f"95 % of the {loss[0]:.2f} dB" in sentence and "A network trained with one set would lose less" in sentence


def test_layers_that_cost_nothing_held_carry_nothing(model):
    nothing = replace(model.layers, enough=None, kept_loss=np.zeros_like(model.layers.kept_loss))
    assert layers.enough_in_words(nothing, 3) == (
        "Holding all layers still costs nothing on these samples: 0.00 dB (0.00 to 0.00)."
    )


def in_link(app, key):
    """AppTest holds what a test has set as text, and what the page has written as a list."""
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def test_another_sample_draws_its_receptive_field():
    def draw():
        import streamlit as st

        from app.services import cache
        from app.views import layers

        st.session_state["draws"] = st.session_state.get("draws", 0) + 1
        layers.page(cache.model("digits-vp-dpi"), 0, "cpu")

    app = AppTest.from_function(draw, default_timeout=120)
    app.query_params.update({"layers_tab": "Receptive field", "layer": "head", "sample": "1", "t": "0.5"})
    app.run()
    assert app.session_state["draws"] == 1
    model = stored.read_model("digits-vp-dpi")
    table = pack_table(layers.layer_table(model, model.layers, True, stored_inputs(model).n))
    place = {"s": 0.5, "layer": "head", "statistic": "pin_mean", "order": "depth", "sample": 2, "shown": "change"}
    app.session_state["layers view"] = {"position": place | {"revision": blob_hash(table)}}
    app.run()
    assert not app.exception and in_link(app, "sample") == "2"
    assert app.session_state["draws"] == 3


def test_the_link_chooses_what_exists_and_nothing_else():
    app = open_page("digits-vp-dpi", layer="head", heat="cka", rows="value", sample="2", shown="change", t="0.4")
    assert in_link(app, "layer") == "head" and in_link(app, "heat") == "cka"
    app = open_page("digits-vp-dpi", layer="nowhere", heat="x", sample="900")
    result = stored.read_model("digits-vp-dpi").layers
    assert in_link(app, "layer") == result.most
    assert in_link(app, "sample") == "0"


def test_a_layer_that_a_link_asks_for_in_vain_is_named(unescaped):
    app = open_page("digits-vp-dpi", layer="nowhere")
    (warning,) = app.warning
    assert unescaped(warning.value).startswith("There is no layer 'nowhere' in digits-vp-dpi, so tail.2 is shown")
    assert "\n" not in warning.value and not app.error
    assert not app.run().warning


def damage(folder):
    file = folder / "model.safetensors"
    with safe_open(file, "numpy") as weights:
        metadata, tensors = weights.metadata(), {name: weights.get_tensor(name) for name in weights.keys()}
    name = next(name for name in tensors if name.endswith("theta1.head.weight"))
    tensors[name][0, 0] = np.nan
    save_file(tensors, file, metadata)


def test_nan_in_the_weights_is_one_sentence_and_the_page_stays(copy_checkpoint, engine):
    damage(copy_checkpoint("mixture2d-flow-dpi"))
    key, inputs = stored.read_model("mixture2d-flow-dpi").key, Inputs("held-out", 8, 0)
    for request in (LayersRequest(key, inputs, "cpu"), LayerDetailRequest(key, inputs, "head", "cpu")):
        job = engine.submit("a", request)
        assert job.wait(120) and job.status == "failed"
        assert "theta1.head.weight are not finite" in job.error and "take an earlier checkpoint" in job.error
        assert "\n" not in job.error


def test_colours_are_made_for_the_levels_between_the_ends():
    values = np.array([[90.0, 1.0, -2.0, 70.0], [80.0, np.nan, 0.5, -60.0]])
    four = Statistic("a", "A", "dB", "How.", np.array([0.0, 0.3, 0.6, 1.0]), values, diverging=True)
    assert four.range[1] == pytest.approx(2.0, abs=0.02) and four.range[0] == -four.range[1]
    ends = Statistic("a", "A", "dB", "How.", np.array([0.0, 1.0]), values[:, [0, 3]], diverging=True)
    assert ends.range[1] == pytest.approx(90.0, abs=0.2)


def test_too_few_samples_and_an_unknown_layer_are_one_sentence(engine):
    key = stored.read_model("mixture2d-flow-dpi").key
    for request, message in (
        (LayersRequest(key, Inputs("held-out", 3, 0), "cpu"), "3 samples were given"),
        (LayerDetailRequest(key, Inputs("held-out", 8, 0), "nowhere", "cpu"), "there is no layer 'nowhere'"),
        (LayerDetailRequest(key, Inputs("held-out", 8, 0), "head", "cpu", 8), "there is no sample 8 among 8"),
    ):
        job = engine.submit("a", request)
        assert job.wait(120) and job.status == "failed" and message in job.error
        engine.cancel("a", job)


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
    chart = distances.histogram_chart(model, "head", detail.histogram_edges, detail.histogram_counts)
    np.testing.assert_array_equal(run(chart.lines)["values"], [row[2] for row in chart.rows])
    shown = layers.layer_detail(model, detail, 0)
    assert shown.lam_s is not None and len(shown.lam_s) == 101
    assert pack_detail(shown)[:4] != b"\0\0\0\0"


@pytest.fixture
def points(monkeypatch):
    """The small model, and what its stored results were judged on."""
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    return stored.read_model("mixture2d-flow-dpi"), Inputs("held-out", MOST["mixture2d-flow-dpi"], 0)


@pytest.mark.parametrize("key", ["change", "cka", "cka_path", "pin_mean", "attribution", "derivative", "relative"])
def test_lines_of_the_table_reproduce_each_statistic(points, key):
    model, inputs = points
    (shown,) = [each.values for each in layers.statistics(model.layers) if each.key == key]
    values = run(layers.table_lines(model, model.layers, inputs, "cpu", key))["values"]
    np.testing.assert_allclose(values.reshape(shown.shape), shown, rtol=2e-3, atol=2e-3)


def test_every_statistic_has_lines(points):
    model, inputs = points
    for each in layers.statistics(model.layers):
        compile(layers.table_lines(model, model.layers, inputs, "cpu", each.key), each.key, "exec")


def test_lines_of_pinning_reproduce_both_figures(points, capsys):
    model, inputs = points
    chart = pinning.pins_chart(model, model.layers, inputs, "cpu", False)
    totals = np.array(run(chart.lines)["values"])  # (3, m, 3), a row of the chart holds those of one layer
    np.testing.assert_allclose(
        [row[1:] for row in chart.rows], totals.swapaxes(0, 1).reshape(len(chart.rows), 9), atol=2e-3
    )
    chart = pinning.kept_layers_chart(model, model.layers, inputs, "cpu")
    found = run(chart.lines)["found"]
    np.testing.assert_allclose([row[3:] for row in chart.rows], found.losses, atol=2e-3)
    assert found.enough == model.layers.enough and str(found.enough) in capsys.readouterr().out


def test_lines_of_cka_and_completeness_reproduce_their_figures(points):
    model, inputs = points
    chart = one_layer.cka_chart(model, model.layers, "tail", inputs, "cpu", 0.5)
    np.testing.assert_allclose(run(chart.lines)["values"].ravel(), [row[2] for row in chart.rows], atol=1e-4)
    chart = attribution.completeness_chart(model, model.layers, inputs, "cpu", 0.5)
    names, worst = run(chart.lines), int(np.nanargmax(model.layers.completeness))
    assert names["residual"] == pytest.approx(float(model.layers.completeness[worst]), abs=1e-3)
    assert names["values"].sum() == pytest.approx(chart.rows[worst][2], abs=2e-3)


def test_lines_of_the_receptive_field_reproduce_its_radius(engine, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    model = stored.read_model("digits-vp-none")
    request = ReceptiveFieldRequest(model.key, Inputs("held-out", 2, 0), 3, 4, (0.3, 0.8), "cpu", 1)
    job = engine.submit("a", request)
    assert job.wait(120) and job.error == "", job.error
    chart = receptive_field.radius_chart(model, job.result, request, 0.5)
    np.testing.assert_allclose(run(chart.lines)["values"], [row[1] for row in chart.rows], rtol=1e-3)
    chart = receptive_field.fields_chart(model, job.result, request)
    fields = list(receptive_fields_of(chart.lines))
    found = np.stack([each.gradients.sum(0).numpy().ravel() for each in fields]).ravel()
    np.testing.assert_allclose([row[3] for row in chart.rows], found, atol=1e-4)


def receptive_fields_of(lines):
    """What the lines go through, before they do."""
    return run("\n".join(lines.splitlines()[:-1]))["fields"]


def test_the_page_opens_on_the_stored_layer_which_is_what_the_engine_computes(model, engine):
    result, kept = model.layers, model.layer
    assert kept.layer == result.most
    worst = result.pinned_total[:, :, 0].max(axis=0)
    assert worst[result.names.index(result.most)] == worst.max()
    job = engine.submit("a", LayerDetailRequest(model.key, stored_inputs(model), kept.layer, "cpu"))
    assert job.wait(120) and job.error == "", job.error
    for name in ("theta0", "theta1", "histogram_counts", "singular_values", "lam", "clean"):
        np.testing.assert_allclose(getattr(kept, name), getattr(job.result, name), rtol=1e-5, atol=1e-6)
    reach = np.abs(job.result.activations).max()
    np.testing.assert_allclose(kept.activations, job.result.activations, atol=2e-3 * reach)  # stored in 16 bits


def test_lines_of_the_detail_reproduce_its_pictures(points):
    model, _ = points
    inputs, detail = stored_inputs(model), model.layer
    names = run(layers.detail_lines(model, detail, inputs, "cpu", 0, 0.5))
    lam = float(np.interp(0.5, detail.s, detail.lam))
    weight = (1 - lam) * detail.theta0 + lam * detail.theta1
    np.testing.assert_allclose(names["weight"].detach().numpy(), weight, atol=1e-4)
    reach = np.abs(detail.activations).max()
    for key, shown in (("output", detail.activations), ("output_at_theta0", detail.activations0)):
        np.testing.assert_allclose(names[key].numpy(), shown, atol=2e-3 * reach)


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
