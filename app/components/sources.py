"""A component is one piece of HTML, one of CSS and one of JavaScript, each made of several files."""

from __future__ import annotations

from pathlib import Path


def read(folder: Path, *names: str) -> str:
    """The named files one after the other."""
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
