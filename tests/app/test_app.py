"""The app without a browser: what opens, what a link and the sidebar choose, and what damage says."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from streamlit.testing.v1 import AppTest

from app.services import stored
from app.views.plain import plain

SCRIPT = Path(__file__).parents[2] / "app" / "main.py"
MODELS = stored.model_names()


def open_app(**parameters):
    """The app as a link with these parameters opens it, its lines of Python and its link unfolded."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=60)
    app.session_state["denoise lines"] = app.session_state["shown link"] = True
    for name, value in parameters.items():
        app.query_params[name] = value
    return checked(app.run())


def checked(app):
    assert not app.exception, app.exception[0].stack_trace
    return app


def computed(app, choice):
    """The app once the engine has answered `choice`: its lines of Python then say so."""
    deadline = time.monotonic() + 60
    while choice not in python(app) or "pad" not in keys(app):
        assert time.monotonic() < deadline, (python(app), [error.value for error in app.error])
        time.sleep(0.1)
        checked(app.run())
    return app


def sentence(app):
    return next(text.value for text in app.main.markdown if text.value.startswith("At **t"))


def python(app):
    return app.code[0].value if app.code else ""


def link(app):
    return app.code[1].value


def family(app):
    """Method -> held-out error at t, of the models trained alike."""
    texts = (re.fullmatch(r":small\[(.+)\]  \n\*\*(.+)\*\*", text.value) for text in app.main.markdown)
    return {re.sub(r"\\(.)", r"\1", text[1]): text[2] for text in texts if text}


def parameters(app):
    """The URL; Streamlit keeps lists."""
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def keys(app):
    """Of the components on the page: "sweep", "pad", "scrubber"."""
    return {node.key for node in app.main if getattr(node, "key", None)}


def scrub(app, s, pad=None):
    """The browser lets go of the scrubber."""
    app.session_state["scrubber"] = {"position": {"s": s, "pad": pad}}
    return checked(app.run())


# Opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_shipped_model_opens_on_its_stored_frames(name):
    app = open_app(model=name)
    assert sentence(app).startswith("At **t = 0.35** (")
    assert not app.error and not app.info
    assert keys(app) >= {"sweep", "scrubber"}
    assert f'dpi_core.load("checkpoints/{name}")' in python(app)
    assert stored.read_model(name).shown in [caption.value for caption in app.caption]


def test_a_model_of_a_link_that_is_not_here_is_named():
    app = open_app(model="somebodys-own")
    (warning,) = app.sidebar.warning
    assert "asks for the model somebodys\\-own, which is not here" in warning.value
    app.sidebar.selectbox[0].set_value("digits-vp-none").run()
    assert not app.sidebar.warning


def test_the_sidebar_offers_models_seed_and_device():
    app = open_app()
    model, device, second = app.sidebar.selectbox
    others = sorted(name for name in MODELS if name.startswith("digits-") and name != "digits-vp-dpi")
    first = sorted(MODELS, key=lambda name: name != "digits-vp-dpi")
    assert (model.label, model.value, model.options) == ("Model", "digits-vp-dpi", first)
    assert (device.label, device.value, device.options[0]) == ("Device", "auto", "auto")
    assert (second.label, second.value, second.options) == ("Second model", "none", ["none", *others])
    (seed,) = app.sidebar.number_input
    assert (seed.label, seed.value, seed.min, seed.max) == ("Seed", 0, 0, 9999)
    assert "0.65 M numbers, DPI: two parameter sets and λ" in unescaped(app.sidebar.caption[0].value)
    assert "digits, CC BY 4.0" in unescaped(app.sidebar.caption[0].value)


def test_a_link_shows_a_second_model_on_the_same_inputs():
    app = open_app(model="digits-vp-dpi", beside="digits-vp-none", t="0.5")
    ours, theirs = (stored.read_model(name).sweep for name in ("digits-vp-dpi", "digits-vp-none"))
    ours, theirs = (10 * np.log10(4 / each.mse[50]).mean() for each in (ours, theirs))
    said = sentence(app)
    assert f"On the same inputs and noise digits-vp-none reaches {theirs:.1f} dB against {ours:.1f}." in said
    assert 'second = dpi_core.load("checkpoints/digits-vp-none")' in python(app)


def test_no_second_model_is_offered_where_there_is_none_of_the_same_data(monkeypatch):
    alone = [source for source in stored.zoo() if source.name in ("digits-vp-dpi", "fashion-flow-dpi")]
    monkeypatch.setattr(stored, "zoo", lambda: alone)
    assert not any(box.label == "Second model" for box in open_app(model="fashion-flow-dpi").sidebar.selectbox)


def test_choosing_a_model_shows_it():
    app = checked(open_app().sidebar.selectbox[0].select("mixture2d-flow-dpi").run())
    assert "flow time 0.65" in sentence(app)
    assert 'dpi_core.load("checkpoints/mixture2d-flow-dpi")' in python(app)
    assert app.sidebar.caption[0].value.endswith("ring mixture, synthetic")


def test_a_blind_model_has_no_pad():
    assert "pad" in keys(open_app(model="digits-vp-dpi"))
    blind = open_app(model="digits-vp-none")
    assert "pad" not in keys(blind)
    assert "The network is blind" in sentence(blind)
    assert "one parameter set, blind to t" in unescaped(blind.sidebar.caption[0].value)


@pytest.mark.parametrize("kind", ["embedding", "input_map"])
def test_a_network_that_is_told_t_is_not_called_blind(kind):
    app = open_app(model=f"digits-vp-{kind}")
    assert "The network has one parameter set; t " in sentence(app)
    assert "blind" not in sentence(app) + app.sidebar.caption[0].value


def test_points_are_offered_no_images_as_inputs():
    assert open_app().button_group[0].options == ["Stored", "Held-out", "Digits", "Photos", "Samples", "Upload"]
    assert open_app(model="mixture2d-flow-dpi").button_group[0].options == ["Stored", "Held-out", "Samples"]


def test_the_family_is_compared_at_the_chosen_s():
    app = open_app(t="0.5")
    shown = family(app)
    assert set(shown) == {name.removeprefix("digits-vp-") for name in MODELS if name.startswith("digits-vp-")}
    assert any("Held-out PSNR of digits-vp at t = 0.50" in caption.value for caption in app.caption)
    dpi, blind = shown["dpi"], shown["none"]
    levels = stored.read_model("digits-vp-dpi").metrics["held_out"]
    nearest = int(np.abs(np.array(levels["s"]) - 0.5).argmin())
    assert float(dpi.removesuffix(" dB")) == pytest.approx(levels["psnr"][nearest]["mean"], abs=0.01)
    assert float(dpi.removesuffix(" dB")) > float(blind.removesuffix(" dB"))


# Links -----------------------------------------------------------------------------------------------------------


BAD_PARAMETERS = [
    {"model": "nonsense"},
    {"model": "../checkpoints/digits-vp-dpi"},
    {"t": "abc"},
    {"t": "7"},
    {"t": "-0.1"},
    {"t": "nan"},
    {"t": ""},
    {"t": "1e400"},
    {"t": "0.35", "lam": "2"},
    {"t": "0.35", "lam": "nan"},
    {"t": "0.35", "lam": "<b>"},
    {"seed": "-1"},
    {"seed": "1e9"},
    {"seed": "1e999"},
    {"seed": "12345678901234567890123"},
    {"seed": "zero"},
    {"inputs": "../../x"},
    {"inputs": "stored"},
    {"device": "cuda:99"},
    {"page": "nowhere", "unknown": "x"},
]


@pytest.mark.parametrize("bad", BAD_PARAMETERS, ids=lambda bad: "&".join(f"{k}={v}" for k, v in bad.items()))
def test_a_link_with_bad_parameters_opens_on_the_defaults(bad):
    app = open_app(**bad)
    assert sentence(app).startswith("At **t = 0.35** (DDPM step 350)") and "held at" not in sentence(app)
    assert app.sidebar.selectbox[0].value == "digits-vp-dpi"
    assert app.sidebar.number_input[0].value == 0
    assert app.button_group[0].value == "Stored"
    assert not app.error


def test_a_link_opens_where_it_was_copied():
    app = open_app(model="mixture2d-flow-dpi", t="0.5", lam="0.25")
    assert sentence(app).startswith("At **t = 0.50** (flow time 0.50)")
    assert "held at λ = 0.25" in sentence(app)
    assert parameters(app) == {"model": "mixture2d-flow-dpi", "t": "0.5", "lam": "0.25"}


def test_a_link_with_a_held_lambda_keeps_it_for_a_model_that_has_none():
    app = open_app(model="digits-vp-none", t="0.5", lam="0.25")
    assert "The network is blind" in sentence(app) and "Mean PSNR" in sentence(app)
    assert "FixedSchedule" not in python(app)
    checked(app.sidebar.selectbox[0].select("digits-vp-dpi").run())
    assert "held at λ = 0.25" in sentence(app) and "FixedSchedule(0.25)" in python(app)


def test_the_link_on_the_page_holds_everything_chosen():
    app = open_app(model="digits-vp-none", seed="5", inputs="Upload")
    scrub(app, 0.8)
    for part in ("model=digits-vp-none", "seed=5", "inputs=Upload", "t=0.8"):
        assert part in link(app)


# The cursor ------------------------------------------------------------------------------------------------------


def test_where_the_hand_lets_go_reaches_the_sentence_the_url_and_the_lines():
    app = scrub(open_app(), 0.6)
    assert sentence(app).startswith("At **t = 0.60** (DDPM step 600)")
    assert parameters(app) == {"t": "0.6"}
    assert "\ns = 0.6\n" in python(app)
    assert any(caption.value.endswith("at t = 0.60") for caption in app.caption)


def test_holding_the_parameters_and_following_them_again():
    app = scrub(open_app(), 0.59375, [0.59375, 0.25])
    assert "The parameters are held at λ = 0.25" in sentence(app)
    assert parameters(app) == {"t": "0.5938", "lam": "0.25"}
    assert "s = 0.59375\n" in python(app) and "FixedSchedule(0.25)" in python(app)
    scrub(app, 0.59)
    assert "The network runs at λ" in sentence(app)
    assert parameters(app) == {"t": "0.59"}
    assert "FixedSchedule" not in python(app)


def test_the_lines_name_the_frame_that_is_drawn():
    assert "\ns = 0.36\n" in python(open_app(t="0.3571"))
    off_curve = python(open_app(t="0.51", lam="0.26"))
    assert "s = 0.5\n" in off_curve and "FixedSchedule(0.25)" in off_curve


POSITIONS = [
    None,
    "0.5",
    {"s": "0.5", "pad": None},
    {"s": 7, "pad": None},
    {"s": float("nan"), "pad": None},
    {"s": 0.5, "pad": [0.5]},
    {"s": 0.5, "pad": [0.5, -3]},
    {"s": 0.5, "pad": {"s": 1}},
    {"pad": None},
]


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_a_position_that_is_none_is_ignored(position):
    app = open_app(t="0.2")
    app.session_state["scrubber"] = {"position": position}
    assert sentence(checked(app.run())).startswith("At **t = 0.20**")


# Other inputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "choice", "line"),
    [
        ("digits-vp-dpi", "Photos", "fit_images(photos(gray=True).held_out_batch(16, seed=3)"),
        ("mixture2d-flow-dpi", "Samples", "model.sample(512, seed=3)"),
    ],
)
def test_other_inputs_are_computed_and_shown_with_their_pad(model, choice, line):
    app = open_app(model=model, inputs=choice, seed="3")
    assert "held_out_batch(16, seed=0)" in python(app) or "held_out_batch(512, seed=0)" in python(app)
    computed(app, line)
    assert not app.error and not app.button
    assert sentence(app).startswith("At **t = 0.35**")


def test_a_held_lambda_survives_until_the_pad_of_the_new_inputs_is_there():
    app = computed(open_app(inputs="Digits", seed="8", t="0.5", lam="0.25"), "digits().held_out_batch(16, seed=8)")
    assert "held at λ = 0.25" in sentence(app)
    assert parameters(app)["lam"] == "0.25"


def test_cancelling_goes_back_to_the_stored_frames():
    app = open_app(inputs="Samples", seed="77")
    (cancel,) = app.button
    assert cancel.label == "Cancel"
    checked(cancel.click().run())
    assert app.button_group[0].value == "Stored" and not app.button
    assert "held_out_batch(16, seed=0)" in python(app)


def test_an_upload_that_is_not_there_leaves_the_stored_frames():
    app = open_app(inputs="Upload")
    assert any(caption.value.startswith("Shown until then: 16 held-out") for caption in app.caption)
    assert "held_out_batch(16, seed=0)" in python(app)


# Damage ----------------------------------------------------------------------------------------------------------


def unescaped(text):
    """Markdown as it is read."""
    return re.sub(r"\\([\W_])", r"\1", text)


def one_error(app):
    (error,) = app.error
    text = unescaped(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


def test_without_models_the_page_says_how_to_make_one(copy_checkpoint):
    assert "python -m dpi_core train" in one_error(open_app())


def test_a_limit_that_is_no_number_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setenv("DPI_MAX_IMAGES", "many")
    app = checked(AppTest.from_file(str(SCRIPT), default_timeout=60).run())
    assert [error.value for error in app.error] == [
        plain("DPI_MAX_IMAGES is 'many', but has to be a positive integer.")
    ]


@pytest.mark.parametrize("file", ["config.json", "metrics.json", "analysis.safetensors"])
def test_a_damaged_checkpoint_shows_one_sentence(copy_checkpoint, file):
    (copy_checkpoint("digits-vp-dpi") / file).write_bytes(b"\x00\xffdamaged")
    app = open_app()
    assert f"digits-vp-dpi/{file} is" in one_error(app)
    assert not app.main.markdown


def test_frames_with_numbers_that_cannot_be_drawn_show_one_sentence(copy_checkpoint):
    file = copy_checkpoint("digits-vp-none") / "analysis.safetensors"
    with safe_open(file, framework="numpy") as analysis:
        metadata = analysis.metadata()
    arrays = load_file(file)
    arrays["sweep.noise"][0] = np.nan
    save_file(arrays, file, metadata)
    assert "sweep.noise holds numbers that are not finite" in one_error(open_app())


def test_a_damaged_relative_does_not_disturb_a_healthy_model(copy_checkpoint):
    copy_checkpoint("digits-vp-dpi")
    (copy_checkpoint("digits-vp-none") / "metrics.json").write_text("{")
    app = open_app()
    assert not app.error
    assert list(family(app)) == ["dpi"]


def test_another_model_can_be_chosen_after_a_damaged_one(copy_checkpoint):
    (copy_checkpoint("digits-vp-dpi") / "config.json").write_text("{")
    copy_checkpoint("digits-vp-none")
    app = open_app()
    assert one_error(app)
    checked(app.sidebar.selectbox[0].select("digits-vp-none").run())
    assert not app.error and sentence(app)


def test_frames_written_while_the_app_runs_are_shown(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-none")
    app = open_app()
    assert "pad" not in keys(app)
    other = copy_checkpoint("digits-vp-dpi") / "analysis.safetensors"
    (folder / "analysis.safetensors").write_bytes(other.read_bytes())
    checked(app.run())
    assert "pad" in keys(app)


def test_damaged_weights_show_one_sentence_and_the_stored_frames_stay(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-none")
    intact = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(intact[:1000])
    app = open_app(inputs="Held-out")
    deadline = time.monotonic() + 60
    while not app.error:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        checked(app.run())
    for _ in range(3):
        checked(app.run())
        assert "model.safetensors is not a readable safetensors file" in one_error(app)
    assert sentence(app)
    (again,) = app.button
    assert again.label == "Try again"
    (folder / "model.safetensors").write_bytes(intact)
    checked(again.click().run())
    assert not app.error


def test_a_model_without_frames_shows_computed_ones(copy_checkpoint):
    (copy_checkpoint("digits-vp-none") / "analysis.safetensors").unlink()
    app = open_app()
    deadline = time.monotonic() + 60
    while "scrubber" not in keys(app):
        assert time.monotonic() < deadline
        assert app.info[0].value.startswith("This model has no stored frames yet")
        time.sleep(0.1)
        checked(app.run())
    assert not app.info and "held_out_batch(16, seed=0)" in python(app)
