"""The Models page: cards of all models, their facts, the search, and the card of a stranger shown as text."""

import json
from html import escape
from pathlib import Path

from streamlit.testing.v1 import AppTest

import dpi_core
from app.figures.cards import facts, matches
from app.services import stored

SCRIPT = Path(__file__).parents[2] / "app" / "main.py"
SHIPPED = stored.model_names()


def draw():
    from app.services import cache
    from app.views import models

    models.page(cache.model(cache.sources()[0].name), 0, "cpu")


def open_models():
    """A session on the Models page, with the first model on show."""
    return checked(AppTest.from_function(draw, default_timeout=60).run())


def checked(app):
    assert not app.exception, app.exception[0].stack_trace
    return app


def cards(app):
    """The HTML of each card."""
    return [html.proto.body for html in app.main.get("html") if "model-card" in html.proto.body]


def press(app, label, model):
    key = f"{label.lower()} {model}"
    return checked(app.button(key=key).click().run())


def test_every_shipped_model_has_a_card_with_its_facts():
    found = cards(open_models())
    assert len(found) == len(SHIPPED)
    for name in SHIPPED:
        model = stored.read_model(name)
        (card,) = (html for html in found if f"<h5>{name}<" in html)
        assert all(f"<dd>{text}</dd>" in card for _, text in facts(model))
        assert card.count("<img ") == (3 if model.has_two_sets else 2)


def test_facts_are_those_of_the_files():
    about = dict(facts(stored.read_model("digits-vp-none")))
    assert about["Data"] == "digits, 1 × 8 × 8" and about["Scalar"] == "one parameter set, blind to t"
    assert about["Licence"] == "data CC BY 4.0; weights MIT" and about["Network"] == "U-Net, 0.33 M numbers"
    held_out = stored.read_model("digits-vp-none").metrics["held_out"]
    right = next(i for i, s in enumerate(held_out["s"]) if s >= 0.35)
    ends = sorted(held_out["psnr"][i]["mean"] for i in (right - 1, right))
    assert ends[0] <= float(about["At t = 0.35"].removesuffix(" dB PSNR")) <= ends[1]


def test_the_card_is_shown_as_text(copy_checkpoint):
    hostile = "# <script>alert(1)</script> ![](https://example.org/pixel.png)"
    (copy_checkpoint("digits-vp-none") / "README.md").write_text(hostile)
    app = press(open_models(), "Card", "digits-vp-none")
    assert [code.value for code in app.code] == [hostile]
    assert not any("example.org" in text.value for text in app.markdown)


def test_words_in_a_strangers_scores_stay_words(copy_checkpoint):
    hostile = '<img src="x" onerror="alert(1)"> **b**'
    file = copy_checkpoint("digits-vp-none") / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["data"]["licence"] = hostile
    file.write_text(json.dumps(metrics))
    (card,) = cards(open_models())
    assert escape(hostile) in card and '<img src="x"' not in card


def test_a_card_says_what_the_network_predicts_and_not_its_recipe():
    for name in stored.model_names():
        model = stored.read_model(name)
        target = {"v": "v", "velocity": "velocity", "x0": "x0", "eps": "ε"}[
            dpi_core.load(model.key.folder).process.prediction
        ]
        assert dict(facts(model))["Process"].endswith(f"predicts {target}")


def test_forty_models_are_searched(copy_checkpoint):
    for number in range(40):
        folder = copy_checkpoint("digits-vp-none" if number else "mixture2d-flow-dpi", f"run{number}-vp-none")
        (folder / "analysis.safetensors").unlink()
    app = open_models()
    assert len(cards(app)) == 40
    checked(app.text_input(key="search").set_value("ring DPI").run())
    (card,) = cards(app)
    assert "<h5>run0-vp-none" in card and "No stored frames" in card
    checked(app.text_input(key="search").set_value("<b>nothing</b>").run())
    assert cards(app) == []


def test_a_search_needs_every_word():
    model = stored.read_model("digits-vp-dpi")
    assert matches(model, "DIGITS vp") and not matches(model, "digits flow") and matches(model, "")


def test_a_damaged_model_is_named_with_what_is_wrong(copy_checkpoint):
    copy_checkpoint("digits-vp-dpi")
    (copy_checkpoint("digits-vp-none") / "config.json").write_text("[")
    app = open_models()
    assert len(cards(app)) == 1
    (error,) = app.error
    assert "config\\.json is not valid JSON" in error.value


def test_one_card_is_marked_as_on_show():
    (shown,) = (html for html in cards(open_models()) if "on show" in html)
    assert f"<h5>{SHIPPED[0]}<" in shown


def test_the_page_is_drawn_where_the_chosen_model_is_damaged(copy_checkpoint):
    copy_checkpoint("digits-vp-none")
    damaged = copy_checkpoint("digits-vp-dpi")
    app = AppTest.from_file(str(SCRIPT), default_timeout=60)
    (damaged / "config.json").write_text("{")
    checked(app.run())
    assert len(app.sidebar.error) == 1

    def without_model():
        from app.views import models

        models.page(None, 0, "cpu")

    app = checked(AppTest.from_function(without_model, default_timeout=60).run())
    assert len(cards(app)) == 1 and len(app.error) == 1
