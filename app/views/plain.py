"""Texts from a stranger's files, shown as they are."""

from __future__ import annotations

import re

SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=])")


def plain(text: str) -> str:
    """Markdown that shows a text as it is, on one line: no markup, links, pictures or directives in it count."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
