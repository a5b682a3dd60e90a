"""Runs in training, live: loss, λ(s) as it forms, saturation, held-out scores, read from their logs as they grow."""

from __future__ import annotations

import time

import streamlit as st

from app.figures.runs import held_out_chart, lambda_chart, loss_chart, saturation_chart, state_of
from app.records import StoredModel, TrainingRun
from app.services import runs
from app.views.charts import show

EVERY = 5.0
"""Seconds between looks at the files."""

MOST = 7
CHOSEN = "runs_shown"
NOTHING = (
    "No run has left a log below `{root}` yet. `python -m dpi_core train digits-vp-dpi` or `python -m dpi_core sweep digits-vp`"
    " starts some; set the environment variable `DPI_RUNS` to look elsewhere."
)


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page; the sidebar's choices do not matter here."""
    _live()


@st.fragment(run_every=EVERY)
def _live() -> None:
    """Only this part runs again and again."""
    names = runs.run_names()
    if not names:
        st.info(NOTHING.format(root=runs.ROOT))
        return
    chosen = st.multiselect(
        "Runs",
        names,
        default=names[:1],
        key=CHOSEN,
        max_selections=MOST,
        bind="query-params",
        help="The last written come first.",
    )
    found = [run for name in chosen if (run := _read(name)) is not None]
    for run in found:
        st.markdown(f"**{run.name}**: {state_of(run, time.time())}")
    logged = [run for run in found if run.done]
    if logged:
        _charts(logged)


def _read(name: str) -> TrainingRun | None:
    try:
        return runs.read_run(name)
    except ValueError as error:
        st.warning(str(error))
        return None


def _charts(logged: list[TrainingRun]) -> None:
    """Loss and saturation of all runs; λ(s) and held-out scores of the first."""
    left, right = st.columns(2)
    with left:
        show(loss_chart(logged))
    first = logged[0]
    with right:
        if len(first.scored_step):
            show(held_out_chart(first))
        else:
            st.caption(f"{first.name} has not scored held-out samples yet: it does so whenever it saves.")
    with left:
        if any(run.saturation is not None for run in logged):
            show(saturation_chart(logged))
    with right:
        if first.lam is not None:
            show(lambda_chart(first))
        else:
            st.caption(f"{first.name} has one parameter set, so there is no λ to form.")
