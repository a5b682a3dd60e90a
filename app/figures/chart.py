"""What every chart has: axis titles, a caption, its data as CSV, the lines of Python behind it; and the colours."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # plotly takes half a second to import, which the start page need not wait for
    from plotly.graph_objects import Figure

THETA0, THETA1, LAMBDA, THIS = "#0072B2", "#D55E00", "#CC79A7", "#009E73"
CURSOR = "#17A08F"  # between the theme's primary on light and on dark
MIDWAY = "#6A6959"  # the even blend of θ0 and θ1
GUIDE = "#8C8C8C"
FAINT = "rgba(140, 140, 140, 0.6)"
SERIES = ("#009E73", "#E69F00", "#56B4E9", "#8C8C8C", "#7E5BD0", "#4477AA", "#999933")
DIVERGING = "RdBu_r"


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with all that stands around it.

    Attributes:
        name: of its files.
        title: the heading.
        figure: for Plotly.
        caption: one sentence that says how to read it.
        header: names of the table's columns.
        rows: its data.
        lines: Python that reproduces it.
    """

    name: str
    title: str
    figure: Figure
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    lines: str

    def csv(self) -> str:
        """The table, readable by spreadsheets."""
        return csv_text(self.header, self.rows)


@dataclass(frozen=True, eq=False)
class Table:
    """A table with all that stands around it; attributes as of `Chart`.

    Attributes:
        formats: column -> how its numbers are written, as for `printf` or as Streamlit names it; the others are texts.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    formats: dict[str, str]
    lines: str

    def csv(self) -> str:
        """The table, readable by spreadsheets."""
        return csv_text(self.header, self.rows)


def csv_text(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A table as spreadsheets read it."""
    stream = io.StringIO()
    csv.writer(stream).writerows([header, *rows])
    return "\ufeff" + stream.getvalue()


def plot(x_title: str, y_title: str, height: int) -> Figure:
    """An empty figure with its axis titles."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        xaxis={"title": x_title, "automargin": True},
        yaxis={"title": y_title, "automargin": True},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        hoverlabel={"namelength": -1},
    )
    return figure


def subplots(titles: tuple[str, ...], across: int | None = None, height: int = 320) -> Figure:
    """Panels side by side, each with its title.

    Args:
        titles: of the panels.
        across: so many at most in a row; None has all in one.
        height: of a row in pixels.
    """
    from plotly.subplots import make_subplots

    columns = min(across or len(titles), len(titles))
    rows = -(-len(titles) // columns)
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=titles, horizontal_spacing=0.04)
    figure.update_layout(height=height * rows, margin={"l": 10, "r": 10, "t": 40, "b": 40})
    figure.update_annotations(font_size=13)
    return figure


def band(figure: Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    """Draws an interval around a line."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
        line={"width": 0}, fillcolor=f"rgba({red}, {green}, {blue}, 0.25)", hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def mark_cursor(figure: Figure, s: float) -> None:
    """Draws the shared cursor."""
    figure.add_vline(s, line={"color": CURSOR, "width": 1.5})


def blend(lam: float) -> str:
    """The colour of a point on the path from θ0 to θ1."""
    start, end = (np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) for colour in (THETA0, THETA1))
    return "#" + "".join(f"{round(channel):02x}" for channel in (1 - lam) * start + lam * end)


def categories(figure: Figure) -> None:
    """Makes the vertical axis a list of names, the first on top."""
    figure.update_yaxes(autorange="reversed", type="category", tickmode="linear")
    # At the top, where it stays in sight while a long list scrolls.
    figure.update_xaxes(side="top")
    figure.update_layout(bargap=0.25, margin={"t": 60, "b": 30}, legend={"y": -0.02, "yanchor": "top"})


def bar_height(count: int) -> int:
    """Of a figure with that many rows, in pixels."""
    return 90 + 20 * max(count, 3)


def order_of(values: np.ndarray, by_value: bool) -> np.ndarray:
    """Rows of a list: as they come, or the largest first."""
    return np.argsort(-np.nan_to_num(values), kind="stable") if by_value else np.arange(len(values))


def share_of_last(values: np.ndarray) -> np.ndarray:
    """Values divided by the last one."""
    return values / (values[-1] or 1.0)


def tiles(images: np.ndarray, gap: float, columns: int) -> np.ndarray:
    """(n, h, w, c) -> rows of tiles with a pixel of `gap` between them, (h', w', c)."""
    n, height, width, channels = images.shape
    columns = min(n, columns)
    rows = -(-n // columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), gap, dtype=images.dtype)
    for at, image in enumerate(images):
        top, left = (height + 1) * (at // columns), (width + 1) * (at % columns)
        canvas[top : top + height, left : left + width] = image
    return canvas


def rows_of(*columns: np.ndarray) -> list[tuple[Any, ...]]:
    """Columns as the rows of a table."""
    return [tuple(float(value) for value in row) for row in zip(*columns, strict=True)]


def signed(value: float, digits: int) -> str:
    """A number with a true minus sign; what rounds to nothing has none."""
    text = f"{value:.{digits}f}"
    return "0." + "0" * digits if float(text) == 0 else text.replace("-", "−")
