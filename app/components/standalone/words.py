"""Text of a page as HTML: captions, and the Markdown of lessons with its formulas, which become MathML."""

from __future__ import annotations

import html
import re

FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.DOTALL)
MATHML = re.compile(r'</?m[a-z]+(?: [a-z]+="[^"<>]*")* ?/?>')
HOLD = "\ue000{}\ue001"
"""Stands for a formula while the text around it is read; of a private area, so in no text."""

HELD = re.compile("\ue000([0-9]+)\ue001")


def paragraph(words: str) -> str:
    """A sentence or a caption; `**strong**` and `code` in it count."""
    return f'<p class="caption">{inline(words)}</p>'


def inline(words: str) -> str:
    """A text with `**strong**` and `code` in it."""
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(words))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", strong)


def text(markdown: str) -> str:
    """Markdown with lists, tables, and formulas between dollars; HTML in it is text."""
    from markdown_it import MarkdownIt  # only who saves a lesson needs it

    formulas: list[str] = []

    def hold(found: re.Match[str]) -> str:
        formulas.append(_formula(found))
        return HOLD.format(len(formulas) - 1)

    held = FORMULA.sub(hold, re.sub("[\ue000\ue001]", "", markdown))
    written = MarkdownIt("commonmark", {"html": False}).enable("table").render(held)
    return f'<div class="text">{HELD.sub(lambda found: formulas[int(found[1])], written)}</div>'


def _formula(found: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    block, inline = found["block"], found["inline"]
    made = convert(block or inline, display="block" if block else "inline")
    made = made.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    # The converter does not escape words within a formula.
    return f"<code>{html.escape(found[0])}</code>" if "<" in MATHML.sub("", made) else made
