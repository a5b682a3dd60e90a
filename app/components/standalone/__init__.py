"""A page of the app as one file that opens without a server and without a network.

A component's view is mounted as in the app: its module is the same, its data are what Python hands it, and its blobs lie in the
file. Nobody listens when the hand lets go. Figures that are only read come with Plotly, which lies in the file once.

    standalone_page(VIEW, [blob], data, title="digits-vp-dpi", about={...}, above=[paragraph("...")], below=[figure(...)])
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app.components.sources import read

__all__ = ["MOST_BYTES", "View", "code", "figure", "numbers", "paragraph", "side_by_side", "standalone_page", "table"]

OWN = Path(__file__).parent
SHARED = OWN.parent / "scrubber"

MOST_BYTES = 10 * 2**20
"""No page is larger; who makes one thins its frames until it fits."""

FIGURE = 'class="plot"'


@dataclass(frozen=True)
class View:
    """What a component is made of; its module's default export is named `mountView`."""

    html: str
    css: str
    js: str


def standalone_page(
    view: View,
    blobs: Iterable[bytes],
    data: Mapping[str, object],
    *,
    title: str,
    about: Mapping[str, object],
    above: Sequence[str] = (),
    below: Sequence[str] = (),
) -> str:
    """The page.

    Args:
        view: the component in its middle.
        blobs: what the component's `pack` functions returned.
        data: what the component is handed.
        title: of the page.
        about: model, seed, versions; also written into the page's metadata.
        above: parts above the view, each made by a function of this module.
        below: parts below it.
    """
    parts = "\n".join(below)
    js = [read(SHARED, "decode.js"), view.js, read(OWN, "page.js")]
    has_figures = FIGURE in parts
    packed = _in_script(json.dumps({"blobs": [_packed(blob) for blob in blobs], "data": dict(data)}))
    script = [*(each.replace("</", "<\\/") for each in js), f"showView({packed});"]
    if has_figures:
        script.append(f'showFigures("{_plotly()}");')
    return read(OWN, "page.html").format(
        title=html.escape(title),
        settings=html.escape(json.dumps(about, ensure_ascii=False), quote=True),
        css=f"{read(OWN, 'page.css')}\n{view.css}",
        above="\n".join(above),
        body=view.html,
        below=parts,
        js="\n".join(script),
    )


def paragraph(text: str) -> str:
    """A sentence or a caption; `**strong**` and `code` in it count."""
    return f'<p class="caption">{_inline(text)}</p>'


def numbers(found: Iterable[tuple[str, str, str]], heading: str = "") -> str:
    """Numbers that stand out: (what it is, its value, a remark) each."""
    cells = "".join(
        f"<div>{html.escape(label)}<b>{html.escape(value)}</b><span class='caption'>{_inline(remark)}</span></div>"
        for label, value, remark in found
    )
    return f'{_heading(heading)}<div class="numbers">{cells}</div>'


def figure(title: str, plotly_json: str, caption: str) -> str:
    """A figure of Plotly's, given as JSON."""
    place = f'<div {FIGURE}></div><script type="application/json">{_in_script(plotly_json)}</script>'
    return f"<section>{_heading(title)}{place}{paragraph(caption)}</section>"


def side_by_side(parts: Iterable[str]) -> str:
    """Parts in columns, as far as the window is wide enough."""
    return f'<div class="plots">{"".join(parts)}</div>'


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """A table of texts and numbers."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    content = f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return f"<section>{_heading(title)}{content}{paragraph(caption)}</section>"


def code(title: str, lines: str) -> str:
    """Lines of Python, or what else is to be copied, folded away."""
    return f"<details><summary>{html.escape(title)}</summary><pre><code>{html.escape(lines)}</code></pre></details>"


def _in_script(encoded: str) -> str:
    """JSON in which no text can end the script around it."""
    return encoded.replace("<", "\\u003c")


def _heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>" if text else ""


def _inline(text: str) -> str:
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", strong)


def _cell(value: Any) -> str:
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # takes half a second to import, which no page has to wait for

    return _packed(get_plotlyjs().encode())
