"""A chart of `app.figures.chart` on the page: heading, files, figure, caption."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from app.figures.chart import Chart


def show(chart: Chart, height: int | None = None) -> None:
    """Draws a chart with its heading, caption, data and lines of Python.

    Args:
        chart: its name is unique on the page.
        height: in pixels, beyond which the figure scrolls in a frame of its own.
    """
    row = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    row.markdown(f"**{chart.title}**")
    with row.popover("Save"):
        st.download_button(
            "CSV", chart.csv, f"{chart.name}.csv", "text/csv", key=f"csv {chart.name}", on_click="ignore"
        )
        svg = st.toggle("The camera saves SVG instead of PNG", key=f"svg {chart.name}")
        st.code(chart.lines, language="python", wrap_lines=True)
    picture = {"format": "svg" if svg else "png", "filename": chart.name, "scale": 1 if svg else 3}
    config = {"toImageButtonOptions": picture, "displaylogo": False}
    is_tall = height is not None and (chart.figure.layout.height or 0) > height
    frame: int | Literal["content"] = height if is_tall and height is not None else "content"
    with st.container(height=frame, border=False):
        st.plotly_chart(chart.figure, config=config, key=f"figure {chart.name}", alt=chart.caption)
    st.caption(chart.caption)
