"""The lessons: every step of every lesson for every kind of model that ships, and the answers against other ways to find them."""

import base64
import io
import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from app.components.keys import presses
from app.figures.offline_lessons import Told, lessons_page
from app.lessons import LESSONS, curve, layers, one_set, sampling, score, seeing
from app.lessons.lesson import (
    Choice,
    Estimate,
    Look,
    Material,
    Pictures,
    Player,
    Plot,
    Predict,
    Read,
    Scrubber,
    verdict,
)
from app.lessons.pictures import as_html
from app.services import compute, stored
from dpi_core.data import load_data
from dpi_core.licences import FOLDER_KINDS

MODELS = stored.model_names()


def kind_of(name):
    """What a lesson can meet of a model: its samples and its process; digits also with one set of parameters."""
    model = stored.read_model(name)
    data = model.recipe["data"]["kind"]
    samples = data if data == "ring_mixture" else model.recipe["shape"][:-2]  # a mixture's answers have a closed form
    return str(samples), model.recipe["process"]["kind"], data != "digits" or model.has_two_sets


def precedence(name):
    """The highest stands for its kind: of data that ship, whose networks are small, and with two sets."""
    return stored.read_model(name).recipe["data"]["kind"] not in FOLDER_KINDS, name.endswith("-dpi")


OF_EACH_KIND = list({kind_of(name): name for name in sorted(MODELS, key=precedence)}.values())
TWO_SETS = [name for name in MODELS if stored.read_model(name).has_two_sets]
PAGES = ("denoise", "parameters", "layers", "trajectories")
NOT_A_NUMBER = re.compile(r"\b(nan|inf)\b")


def silent(done, total, partial=None):
    """A report nobody reads."""


@pytest.fixture(scope="module")
def loaded():
    """Models by name, loaded when they are first asked for."""
    found = {}

    def load(name):
        if name not in found:
            found[name] = compute.load_model(stored.read_model(name).key, "cpu")
        return found[name]

    return load


@pytest.fixture(scope="module")
def material(loaded):
    """What a lesson's steps are built from, with all answers of the engine."""
    known = {}

    def make(name, lesson):
        model = stored.read_model(name)
        family = tuple(card for card in map(stored.read_model, MODELS) if card.family == model.family)
        for request in lesson.requests(model, "cpu"):
            if request not in known:
                known[request] = compute.answer(loaded(name), request, silent)
        return Material(model, family, "cpu", known)

    return make


def texts_of(content):
    """All that is read in a step."""
    yield content.text
    if isinstance(content, Predict):
        yield content.reveal
        yield verdict(content.answer, None)
        yield verdict(content.answer, 0)
        yield from content.answer.options if isinstance(content.answer, Choice) else [content.answer.label]


def figures_of(content):
    """All that is seen in a step."""
    if isinstance(content, Read):
        return [content.figure] if content.figure else []
    if isinstance(content, Predict):
        guess = 0 if isinstance(content.answer, Choice) else content.answer.low
        return [*([content.before] if content.before else []), content.figure(None), content.figure(guess)]
    return []


def check_figure(figure, material):
    assert figure.caption.endswith(".")
    if isinstance(figure, Plot):
        drawn = figure.figure
        assert drawn.layout.xaxis.title.text
        assert drawn.layout.yaxis.title.text or drawn.layout.yaxis.type == "category"
        for trace in drawn.data:
            for values in (trace.x, trace.y):
                numbers = np.asarray(values)
                assert len(numbers) and (numbers.dtype.kind in "OU" or np.isfinite(numbers).all())
    elif isinstance(figure, Pictures):
        for _, tiles in figure.rows:
            assert len(tiles) == len(figure.columns)
            for tile in tiles:
                check_tile(tile)
        assert as_html(figure).count("<img") == len(figure.rows) * len(figure.columns)
    elif isinstance(figure, Player):
        assert all(request in material.results for request in figure.runs)
    else:
        assert isinstance(figure, Scrubber) and material.model.sweep is not None


def check_tile(tile):
    kind, content = tile.source.split(";base64,")
    raw = base64.b64decode(content)
    assert tile.alt
    if kind == "data:image/svg+xml":
        assert "nan" not in raw.decode()
        assert xml.etree.ElementTree.fromstring(raw).tag.endswith("svg")
    else:
        with Image.open(io.BytesIO(raw)) as image:
            image.load()
            assert np.ptp(np.asarray(image)) > 0


# Every step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_EACH_KIND)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_a_lesson_runs_from_start_to_end(lesson, name, material):
    model = stored.read_model(name)
    lack = lesson.lack(model)
    if lack is not None:
        assert lack.endswith(".") and "\n" not in lack
        assert any(lesson.lack(stored.read_model(other)) is None for other in MODELS), "no model can take this lesson"
        return
    made = material(name, lesson)
    steps = lesson.steps_for(made)
    contents = [step.build(made) for step in steps]
    assert 5 <= len(steps) <= 8
    assert sum(isinstance(content, Predict) for content in contents) >= 2
    assert sum(isinstance(content, Look) for content in contents) == 1
    for content in contents:
        for text in texts_of(content):
            assert text and not NOT_A_NUMBER.search(text) and "!" not in text
        for figure in figures_of(content):
            check_figure(figure, made)
        if isinstance(content, Predict):
            check_answer(content.answer)
        if isinstance(content, Look):
            assert content.page in PAGES and all(isinstance(value, str) for value in content.query.values())


def check_answer(answer):
    if isinstance(answer, Choice):
        assert 0 <= answer.truth < len(answer.options) == len(set(answer.options))
    else:
        assert np.isfinite(answer.truth) and answer.low <= answer.truth <= answer.high


def test_steps_ask_only_for_what_the_lesson_computes():
    for lesson in LESSONS:
        count = len(lesson.requests(stored.read_model("digits-vp-dpi"), "cpu"))
        assert all(step.wants <= count for step in lesson.steps)
        assert len({step.title for step in lesson.steps}) == len(lesson.steps)


# Answers against other ways to find them ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_half_of_the_error_is_where_the_network_makes_half_of_it(name, loaded):
    model = stored.read_model(name)
    sweep, t = model.sweep, seeing.half_way(model)
    clean = torch.from_numpy(np.moveaxis(seeing.samples(model, sweep.clean), -1, 1) if model.is_image else sweep.clean)
    eps = torch.from_numpy(np.moveaxis(sweep.noise, -1, 1) if model.is_image else sweep.noise)

    def error(s):
        x_s = loaded(name).process.add_noise(clean.float(), eps.float(), s)
        return (loaded(name).denoise(x_s, s) - clean).square().mean().item()

    assert error(t) / error(1.0 - 1e-6) == pytest.approx(0.5, abs=0.02)


def test_what_is_left_of_noise_is_told_apart():
    model = stored.read_model("digits-vp-dpi")
    assert seeing.ENDINGS[seeing.ending(model)] == "Nearly the same average for every input"
    # Where the noise ends early, the estimates are the originals: the first frames as if they were all there is.
    early = truncated(model, 10)
    assert seeing.ENDINGS[seeing.ending(early)] == "The clean original, nearly"


def truncated(model, count):
    """A model whose stored frames end after `count` noise levels."""
    sweep = model.sweep
    fields = ("s", "lam", "alpha", "sigma", "native", "x0_hat", "mse")
    cut = {key: getattr(sweep, key)[:count] for key in fields if getattr(sweep, key) is not None}
    return type(model)(**(vars(model) | {"sweep": type(sweep)(**(vars(sweep) | cut))}))


@pytest.mark.parametrize("name", TWO_SETS)
def test_no_position_is_a_better_compromise(name):
    model = stored.read_model(name)
    found, pad = one_set.compromise(model), model.pad
    quality = pad.score if model.is_image else -10 * np.log10(np.maximum(pad.score, 1e-12))
    inside = [p for p, s in enumerate(pad.s) if 0.05 <= s <= 0.95]
    means = [np.mean([quality[q, p] for p in inside]) for q in range(len(pad.lam))]
    assert pad.lam[int(np.argmax(means))] == pytest.approx(found.lam)
    learned = np.mean([np.interp(pad.learned[p], pad.lam, quality[:, p]) for p in inside])
    assert found.loss == pytest.approx(learned - max(means), abs=1e-4)
    assert one_set.price_of_the_wrong_set(model) > found.loss > 0


def test_the_blind_twin_is_the_one_measured_alike(material):
    made = material("digits-vp-dpi", one_set.LESSON)
    assert one_set.twin(made).name == "digits-vp-none"
    with_sets, blind = (mean_psnr(name) for name in ("digits-vp-dpi", "digits-vp-none"))
    assert one_set.twin_gap(made) == pytest.approx(with_sets - blind)
    assert one_set.twin(material("fashion-flow-dpi", one_set.LESSON)) is None


def mean_psnr(name):
    scores = json.loads((stored.CHECKPOINTS / name / "metrics.json").read_text())
    return np.mean([level["mean"] for level in scores["held_out"]["psnr"]])


@pytest.mark.parametrize("name", TWO_SETS)
def test_the_network_is_half_way_where_the_lesson_says(name, loaded):
    model = stored.read_model(name)
    s, lam = curve.half_way(model), loaded(name).denoiser.lam
    assert lam(s - 0.005).mean() < 0.5 < lam(s + 0.005).mean(), "s is said to two decimals"


def test_what_the_straight_line_loses_is_what_the_network_loses(loaded):
    name = "mixture2d-flow-dpi"
    pad, model = stored.read_model(name).pad, loaded(name)
    x0 = load_data(model.recipe.data).held_out_batch(2048, 7)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(7))
    lost = []
    for s in pad.s[(pad.s >= 0.05) & (pad.s <= 0.95)].tolist():
        x_s = model.process.add_noise(x0, eps, s)
        # λ = s is where the learned curve stands at another scalar.
        grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
        elsewhere = float(np.interp(s, model.denoiser.lam(grid).detach().numpy(), grid.numpy()))
        errors = [(model.denoise(x_s, s, s_theta=at) - x0).square().mean().item() for at in (s, elsewhere)]
        lost.append(10 * np.log10(errors[1] / errors[0]))
    assert curve.mean_loss_of_the_line(stored.read_model(name)) == pytest.approx(np.mean(lost), abs=0.05)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_formulas_agree_with_the_network_s_own_output(name, material):
    views = score.views_of(material(name, score.LESSON))
    assert all(values.max() < 1e-5 for values in score.residuals(views).values())
    of_x0, of_eps = score.errors(views)
    np.testing.assert_allclose(of_eps / of_x0, views.alpha / views.sigma, rtol=1e-3)


def test_the_closed_form_s_score_is_the_slope_of_its_density(material, loaded):
    name = "mixture2d-flow-dpi"
    views = score.views_of(material(name, score.LESSON))
    mixture = load_data(loaded(name).recipe.data).distribution
    k = int(np.argmin(np.abs(views.s - 0.5)))
    x = torch.from_numpy(views.x_s[k]).double().requires_grad_()
    (slope,) = torch.autograd.grad(mixture.log_prob(x, float(views.alpha[k]), float(views.sigma[k])).sum(), x)
    np.testing.assert_allclose(views.exact_score[k], slope.numpy(), atol=1e-6)
    assert score.score_error(views)[k] < 0.05
    assert score.score_error(score.views_of(material("digits-vp-dpi", score.LESSON))) is None


def test_an_end_is_that_of_the_library_s_run(material, loaded):
    made = material("digits-vp-dpi", sampling.LESSON)
    end = loaded("digits-vp-dpi").sample(sampling.IMAGES, "ddim", 16, seed=0).x.numpy()
    gap = np.moveaxis(end, 1, -1) - sampling.fine_of(made).x[-1]
    assert sampling.error_of(made, "ddim", 16) == pytest.approx(np.sqrt(np.mean(gap**2)), rel=1e-3)


@pytest.mark.parametrize("name", TWO_SETS)
def test_half_of_the_distance_takes_no_fewer_layers(name):
    model = stored.read_model(name)
    if model.parameters is None:
        assert layers.LESSON.lack(model) is not None or model.layers is not None
        return
    weights = model.parameters.weights
    squared = [float(weights.distance[i]) ** 2 for i, kind in enumerate(weights.kinds) if kind == "layer"]
    squared.sort(reverse=True)
    count = layers.layers_for_half(model)
    assert sum(squared[:count]) >= 0.5 * sum(squared) > sum(squared[: count - 1])
    names, values = layers.parts(model)
    assert names[int(values.argmax())] in [names[i] for i in layers.offered(names, values)]


# Words -------------------------------------------------------------------------------------------------------------


def test_a_verdict_compares_the_guess_with_the_truth():
    choice = Choice(("one", "two"), 1)
    assert verdict(choice, 1) == "Right: **two**."
    assert verdict(choice, 0) == "You said “one”; for this model: **two**."
    assert verdict(choice, None) == "For this model: **two**."
    number = Estimate("t", 0, 1, 0.01, 0.414, near=0.05)
    assert verdict(number, 0.3) == "You said 0.30; this model has **0.41**: you were 0.11 too low."
    assert verdict(number, 0.45) == "You said 0.45; this model has **0.41**: close."
    assert (
        verdict(Estimate("dB", 0, 9, 0.5, 8.4, " dB"), 9.0)
        == "You said 9.0 dB; this model has **8.4 dB**: you were 0.6 dB too high."
    )


# The page ----------------------------------------------------------------------------------------------------------


def draw(name):
    from app.services import stored
    from app.views import learn

    learn.page(stored.read_model(name), 0, "cpu")


def open_page(name, **query):
    app = AppTest.from_function(draw, kwargs={"name": name}, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    return checked(app.run())


def checked(app):
    assert not app.exception, app.exception[0].stack_trace
    return app


def press(app, key):
    return checked(app.button(key=key).click().run())


def query(app):
    return {key: value[0] if isinstance(value, list) else value for key, value in app.query_params.items()}


def shown(app):
    return " ".join(text.value for text in app.main.markdown)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_a_reader_walks_through_a_lesson(name):
    app = press(open_page(name), "start seeing")
    assert "Signal and noise" in shown(app)
    app = press(app, "next")
    assert app.button(key="commit").disabled
    truth = seeing.ending(stored.read_model(name))
    checked(app.radio[0].set_value(truth).run())
    app = press(app, "commit")
    assert f"Right: **{seeing.ENDINGS[truth]}**" in shown(app)
    app = press(app, "next")
    checked(app.slider[0].set_value(0.9).run())
    app = press(app, "commit")
    assert "You said 0.90; this model has" in shown(app)
    for _ in range(3):
        app = press(app, "next")
    assert "In short" in shown(app)
    assert query(app) == {"lesson": "seeing", "step": "6", "answer": f"2:{truth},3:0.9", "done": "seeing"} | (
        {"t": query(app)["t"]} if "t" in query(app) else {}
    )
    app = press(press(app, "next"), "leave lesson")
    assert "1 of 6 read to the end" in " ".join(caption.value for caption in app.caption)


def test_a_link_opens_the_step_with_its_answer():
    app = open_page("digits-vp-dpi", lesson="seeing", step="3", answer="3:0.3")
    assert "You said 0.30; this model has **0.32**: close." in shown(app)
    unsaid = open_page("digits-vp-dpi", lesson="seeing", step="3", answer="3:")
    assert "For this model: **0.32**." in shown(unsaid)


def test_a_url_that_lags_behind_leaves_the_reader_where_he_is():
    app = press(press(open_page("digits-vp-dpi"), "start seeing"), "next")
    # What the browser sends by itself before the server's new URL has reached it.
    app.query_params["step"] = "1"
    app = checked(app.run())
    assert query(app)["step"] == "2" and "Signal and noise" not in shown(app)


def test_presses_are_read_with_their_numbers():
    sent = [{"number": 3, "pressed": "next"}, {"number": 4, "pressed": "2"}, {"number": "x", "pressed": "next"}, 7]
    assert presses({"presses": sent}) == [(3, "next"), (4, "2")]
    assert presses(None) == presses({"presses": "next"}) == presses({}) == []


@pytest.mark.parametrize(("step", "guess"), [("2", "99"), ("2", "-1"), ("2", "0.5"), ("3", "1e300"), ("3", "-0.1")])
def test_an_answer_that_cannot_be_given_leaves_the_question_open(step, guess):
    app = open_page("digits-vp-dpi", lesson="seeing", step=step, answer=f"{step}:{guess}")
    assert any(button.key == "commit" for button in app.button) and "answer" not in query(app)


def test_a_lesson_is_saved_without_answers_that_cannot_be_given(material):
    made = material("digits-vp-dpi", seeing.LESSON)
    page, empty = (lessons_page({}, [Told(seeing.LESSON, 1, made, guesses)]) for guesses in ({2: 99.0, 3: 7.0}, {}))
    assert page == empty


def test_a_cursor_off_the_learned_curve_stays_off_it():
    app = open_page("digits-vp-dpi", lesson="seeing", step="4", t="0.4", lam="0.7")
    assert "the difference." in app.caption[-1].value and query(app)["lam"] == "0.7"


@pytest.mark.parametrize("bad", [{"step": "abc"}, {"step": "-1"}, {"answer": "x:y,9,2:nan"}, {"present": "yes"}])
def test_a_spoilt_link_opens_the_lesson_all_the_same(bad):
    app = open_page("digits-vp-dpi", lesson="seeing", **bad)
    assert "Signal and noise" in shown(app)


def test_an_unknown_lesson_is_the_list():
    assert "Six lessons" in shown(open_page("digits-vp-dpi", lesson="nothing"))


def test_a_step_beyond_the_end_is_the_last():
    assert "In short" in shown(open_page("digits-vp-dpi", lesson="seeing", step="99"))


def test_a_model_without_two_sets_is_told_who_has_them():
    app = open_page("digits-vp-none", lesson="curve")
    assert "this model has one set" in shown(app)
    offers = [button.label for button in app.button if button.label.startswith("Take this lesson with")]
    assert offers[0] == "Take this lesson with digits-vp-dpi"
