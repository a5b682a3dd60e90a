"""The documentation holds: it builds without a warning, its links lead somewhere, its lines of Python run, its commands parse."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

import dpi_core
from dpi_core.cli import _parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
WITH_PYTHON = ("engineer", "faq", "processes", "researcher")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
OUTSIDE = ("http://", "https://")
COMMANDS = "train sweep judge evaluate report analyse halve sample import export info".split()
MOST_BYTES = 3_000_000
"""Of all pictures together."""


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def script(name):
    """A file of docs/ as a module: they are scripts and belong to no package."""
    spec = util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_it_builds_without_a_warning_and_its_pages_fetch_nothing(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list(tmp_path.glob("*.html"))
    assert {"guide.html", "RESULTS.html", "CHANGELOG.html"} <= {page.name for page in pages}
    fetched = re.compile(
        r"""<(?:script|img|link[^>]*rel="?(?:stylesheet|preconnect)"?)[^>]*(?:src|href)="?https?://[^">]*"""
    )
    assert [found for page in pages for found in fetched.findall(page.read_text())] == []
    assert "dpi_core.interpolation.DPI.materialize" in (tmp_path / "api.html").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_relative_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text()) if not target.startswith(OUTSIDE)]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def anchors(page):
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_headings(page):
    """mkdocs checks those of its own pages; the README is read elsewhere."""
    for file, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text()):
        if not file.startswith(OUTSIDE):
            assert anchor in anchors(page.parent / file if file else page), f"{file}#{anchor}"


def test_the_reference_has_every_public_name():
    documented = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert set(dpi_core.__all__) <= {name.rsplit(".", 1)[1] for name in documented}


def test_pages_with_python_are_those_that_are_run():
    assert {page.stem for page in DOCS.glob("*.md") if blocks(page, "python")} == set(WITH_PYTHON)


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_lines_of_python_run(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {"__name__": f"docs_{name}"}
    for block in blocks(DOCS / f"{name}.md", "python"):
        exec(compile(block, f"{name}.md", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_can_be_given(page):
    text = page.read_text()
    lines = [line for block in re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()]
    for command in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
        match shlex.split(command, comments=True) if command.startswith(("python ", "streamlit run ")) else []:
            case ["python", "-m", "dpi_core", name] if name not in ("report", "sweep"):
                assert name in COMMANDS, command  # only named in passing
            case ["python", "-m", "dpi_core", *arguments] if arguments:
                _parser().parse_args(arguments)  # exits where an option is unknown
            case ["python", "-m", module, *_] if "." in module:
                assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), command
            case ["python", file, *_] if "/" in file:
                assert (ROOT / file).is_file(), command
            case ["streamlit", "run", file, *_]:
                assert (ROOT / file).is_file(), command


def test_measured_numbers_are_those_of_their_files():
    measured = script("measured")
    for page in DOCS.glob("*.md"):
        assert measured.renewed(page.read_text()) == page.read_text(), "run `python docs/measured.py`"
    numbers = json.loads((ROOT / "checkpoints/digits-vp-dpi/metrics.json").read_text())["parameters"]
    stale = "<!-- parameters digits-vp-dpi -->0<!-- -->"
    assert measured.renewed(stale) == stale.replace("-->0<", f"-->{numbers:,}<")


def test_each_picture_is_taken_by_the_script_and_shown():
    pictures = {path.stem: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert set(pictures) == set(script("pictures").SHOTS)
    guide = (DOCS / "guide.md").read_text()
    assert [name for name in pictures if f"(pictures/{name}.webp)" not in guide] == []
    assert sum(pictures.values()) < MOST_BYTES
