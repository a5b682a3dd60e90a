"""Runs in training, live: loss, λ(s) as it forms, saturation, held-out scores, read from their logs as they grow."""

from __future__ import annotations

import time
from functools import partial
from itertools import cycle
from pathlib import Path

import streamlit as st

from app.figures.chart import Chart
from app.figures.offline_lists import runs_page
from app.figures.runs import run_charts, state_of
from app.records import StoredModel, TrainingRun
from app.services import runs
from app.services.reproduction import versions
from app.views.charts import show
from app.views.offline import offer_page

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
    st.html(Path(__file__).with_name("runs.css"))
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
    now = time.time()
    found = [run for name in chosen if (run := _read(name)) is not None]
    for run in found:
        st.markdown(f"**{run.name}**: {state_of(run, now)}")
    for column, shown in zip(cycle(st.columns(2)), run_charts([run for run in found if run.done]), strict=False):
        with column:
            if isinstance(shown, Chart):
                show(shown)
            else:
                st.caption(shown)
    if found:
        offer_page("runs", partial(runs_page, versions(), found, now))


def _read(name: str) -> TrainingRun | None:
    try:
        return runs.read_run(name)
    except ValueError as error:
        st.warning(str(error))
        return None
