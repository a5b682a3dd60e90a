"""Models and Runs as files: the cards, and the charts of training, as their pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.components.standalone import code, paragraph, section, standalone_page
from app.figures.cards import SCORED_AT
from app.figures.chart import Chart
from app.figures.model_cards import CARD_STYLE, card_html
from app.figures.offline_parts import ending, with_charts
from app.figures.runs import run_charts, state_of
from app.records import StoredModel, TrainingRun

CARDS = """
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 12px; }
.cards > div { border: 1px solid var(--st-border-color); border-radius: 4px; padding: 12px; min-width: 0; }
.cards pre { white-space: pre-wrap; }
"""


def models_page(
    about: Mapping[str, object], cards: Sequence[tuple[StoredModel, str]], wanted: str, shown: str | None
) -> str:
    """The Models page: the cards that are seen, with the model card of each folded away.

    Args:
        about: versions.
        cards: (model, its model card as text) each.
        wanted: what was searched for, or "".
        shown: name of the model on show, if there is one.
    """
    found = [
        f"<div>{card_html(model, model.name == shown)}{code('Model card', text or 'There is no README.md.')}</div>"
        for model, text in cards
    ]
    which = f"{len(cards)} models that hold “{wanted}”" if wanted else f"{len(cards)} models"
    said = f"{which}. Pictures and scores at t = {SCORED_AT:g}; purple: λ(s), dashed: a straight λ."
    paths = "".join(f'    "{model.source.load_from}",\n' for model, _ in cards)
    loading = f"import dpi_core\n\npaths = [\n{paths}]\nmodels = [dpi_core.load(path) for path in paths]"
    return standalone_page(
        [
            paragraph(said),
            f'<div class="cards">{"".join(found)}</div>',
            *ending(about, {"Python that loads these models": loading}),
        ],
        title="Models",
        about=about,
        css=CARD_STYLE.read_text(encoding="utf-8") + CARDS,
    )


def runs_page(about: Mapping[str, object], runs: Sequence[TrainingRun], now: float) -> str:
    """The Runs page: the state of each run at the moment it is saved, and the charts.

    Args:
        about: versions.
        runs: that are shown.
        now: seconds since 1970.
    """
    states = [paragraph(f"**{run.name}**: {state_of(run, now)}") for run in runs]
    found = run_charts([run for run in runs if run.done])
    charts = [each for each in found if isinstance(each, Chart)]
    said = [paragraph(each) for each in found if not isinstance(each, Chart)]
    return standalone_page(
        [section("As it stood when it was saved", states), *said, *with_charts(charts, about, {})],
        title="Runs in training",
        about=about,
    )
