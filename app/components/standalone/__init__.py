"""A page of the app as one file that opens without a server and without a network.

A page is made of parts, each by a function of this package. A component's view is mounted as in the app: its module is the
same, its data are what Python hands it, and its blobs lie in the file. Nobody listens when the hand lets go. Figures that are
only read come with Plotly, which lies in the file once.

    parts = [paragraph("..."), mounted(VIEW, [blob], data), figure(...)]
    standalone_page(parts, title="digits-vp-dpi", about={...})
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app.components.sources import read
from app.components.standalone.words import inline, paragraph, text

__all__ = [
    "MOST_BYTES",
    "View",
    "code",
    "figure",
    "folded",
    "mounted",
    "numbers",
    "paragraph",
    "section",
    "side_by_side",
    "standalone_page",
    "table",
    "text",
]

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


def standalone_page(parts: Iterable[str], *, title: str, about: Mapping[str, object], css: str = "") -> str:
    """The page.

    Args:
        parts: each made by a function of this package, from top to bottom.
        title: of the page.
        about: model, seed, versions; also written into the page's metadata.
        css: for parts of the caller's own.
    """
    body = "\n".join(parts)
    js = [_in_module(OWN, "unpack.js"), _in_module(OWN, "figures.js")]
    if FIGURE in body:
        js.append(f'showFigures("{_plotly()}");')
    return read(OWN, "page.html").format(
        title=html.escape(title),
        settings=html.escape(json.dumps(about, ensure_ascii=False), quote=True),
        css=f"{read(OWN, 'page.css')}\n{css}",
        body=body,
        js="\n".join(js),
    )


def mounted(view: View, blobs: Iterable[bytes], data: Mapping[str, object]) -> str:
    """A component's view.

    Args:
        view: the component.
        blobs: what the component's `pack` functions returned.
        data: what the component is handed.
    """
    content = {"blobs": [_packed(blob) for blob in blobs], "data": dict(data)}
    place = f"view-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}"
    # A module has a scope of its own, so views do not disturb one another.
    js = [_in_module(SHARED, "decode.js"), _closed(view.js), _in_module(OWN, "unpack.js"), _in_module(OWN, "view.js")]
    call = f"showView({_in_script(json.dumps({'place': place, **content}))});"
    script = "\n".join(['<script type="module">', *js, call, "</script>"])
    return f'<style>\n{view.css}\n</style>\n<div id="{place}">{view.html}</div>\n{script}'


def numbers(found: Iterable[tuple[str, str, str]], heading: str = "") -> str:
    """Numbers that stand out: (what it is, its value, a remark) each."""
    cells = "".join(
        f"<div>{html.escape(label)}<b>{html.escape(value)}</b><span class='caption'>{inline(remark)}</span></div>"
        for label, value, remark in found
    )
    return f'{_heading(heading)}<div class="numbers">{cells}</div>'


def section(title: str, parts: Iterable[str]) -> str:
    """Parts under a heading."""
    return f"<section>{_heading(title)}{''.join(parts)}</section>"


def figure(title: str, plotly_json: str, caption: str) -> str:
    """A figure of Plotly's, given as JSON."""
    place = f'<div {FIGURE}></div><script type="application/json">{_in_script(plotly_json)}</script>'
    return section(title, [place, paragraph(caption)])


def side_by_side(parts: Iterable[str]) -> str:
    """Parts in columns, as far as the window is wide enough."""
    return f'<div class="plots">{"".join(parts)}</div>'


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """A table of texts and numbers."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    content = f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return section(title, [content, paragraph(caption)])


def code(title: str, lines: str) -> str:
    """Lines of Python, or what else is to be copied, folded away."""
    return folded(title, [f"<pre><code>{html.escape(lines)}</code></pre>"])


def folded(title: str, parts: Iterable[str]) -> str:
    """Parts that are seen once the title is clicked."""
    return f"<details><summary>{html.escape(title)}</summary>{''.join(parts)}</details>"


def _in_module(folder: Path, name: str) -> str:
    return _closed(read(folder, name))


def _closed(js: str) -> str:
    """JavaScript in which no text can end the script around it."""
    return js.replace("</", "<\\/")


def _in_script(encoded: str) -> str:
    """JSON in which no text can end the script around it."""
    return encoded.replace("<", "\\u003c")


def _heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>" if text else ""


def _cell(value: Any) -> str:
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # takes half a second to import, which no page has to wait for

    return _packed(get_plotlyjs().encode())
