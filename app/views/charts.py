"""A chart or table of `app.figures.chart` on the page: heading, files, figure, caption."""

from __future__ import annotations

from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.figures.chart import Chart, Table


def show(chart: Chart, height: int | None = None) -> None:
    """Draws a chart with its heading, caption, data and lines of Python.

    Args:
        chart: its name is unique on the page.
        height: in pixels, beyond which the figure scrolls in a frame of its own.
    """
    with _heading(chart):
        svg = st.toggle("The camera saves SVG instead of PNG", key=f"svg {chart.name}")
        st.code(chart.lines, language="python", wrap_lines=True)
    picture = {"format": "svg" if svg else "png", "filename": chart.name, "scale": 1 if svg else 3}
    config = {"toImageButtonOptions": picture, "displaylogo": False}
    is_tall = height is not None and (chart.figure.layout.height or 0) > height
    frame: int | Literal["content"] = height if is_tall and height is not None else "content"
    with st.container(height=frame, border=False):
        st.plotly_chart(chart.figure, config=config, key=f"figure {chart.name}", alt=chart.caption)
    st.caption(chart.caption)


def show_table(table: Table) -> None:
    """Draws a table with its heading, caption, data and lines of Python."""
    with _heading(table):
        st.code(table.lines, language="python", wrap_lines=True)
    columns = {name: st.column_config.NumberColumn(format=form) for name, form in table.formats.items()}
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    st.dataframe(rows, hide_index=True, column_config=columns, key=f"table {table.name}")
    st.caption(table.caption)


def _heading(shown: Chart | Table) -> DeltaGenerator:
    """The title, and at its right a place for what is saved, with the data as CSV in it."""
    row = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    row.markdown(f"**{shown.title}**")
    save = row.popover("Save")
    save.download_button("CSV", shown.csv, f"{shown.name}.csv", "text/csv", key=f"csv {shown.name}", on_click="ignore")
    return save
