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
    "No run has left a log yet. `python -m dpi_core train digits-vp-dpi` or `python -m dpi_core sweep digits-vp`"
    " starts some; they are looked for in `runs/`, or where the environment variable `DPI_RUNS` points."
)


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page; the sidebar's choices do not matter here."""
    _live()


@st.fragment(run_every=EVERY)
def _live() -> None:
    """Only this part runs again and again."""
    names = runs.run_names()
    if not names:
        st.info(NOTHING)
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
    """Loss and saturation of all runs; λ(s) and held-out scores of the first that has them."""
    scored = [run for run in logged if len(run.scored_step)]
    with_curve = [run for run in logged if run.lam is not None]
    left, right = st.columns(2)
    with left:
        show(loss_chart(logged))
        if with_curve:
            show(saturation_chart(with_curve))
        else:
            st.caption("One parameter set each, so there is no λ to form.")
    with right:
        if scored:
            show(held_out_chart(scored[0]))
        else:
            st.caption("No held-out scores are logged yet: a run scores a few samples whenever it saves.")
        if with_curve:
            show(lambda_chart(with_curve[0]))
