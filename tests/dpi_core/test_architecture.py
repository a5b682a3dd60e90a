"""Who may import whom, read from the syntax trees."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

import dpi_core
from dpi_core.mixtures import ring_mixture

ROOT = Path(dpi_core.__file__).parents[1]

# A module may import the rows above its own, and its own row where nothing forbids it.
ROWS = (
    {"types", "config", "precision", "parallel", "verdicts", "limits", "image_files", "allocator", "progress"}
    | {"changes", "licences", "judged"},
    {"lambda_schedules", "noise_processes", "backbones", "data"}
    | {"seeds", "idx_files", "images", "patches", "planar", "mixtures", "classifier", "distances"},
    {"flat_storage", "linearity", "sample_batches", "operators", "interpolation", "one_set"}
    | {"conditioning", "replay"},
    {"denoiser"},
    {"samplers", "training", "evaluation", "analysis"},
    {"model", "build", "checkpoint", "hub"},
    {"state_dicts", "reference_format", "exporting", "exchange", "own_network", "diffusers_bridge"}
    | {
        "quality",
        "cost",
        "own_images",
        "layer_detail",
        "layer_report",
        "parameter_report",
        "judges",
        "reports",
        "card",
        "runs",
        "held_out",
        "equal_time",
        "halving",
    }
    | {"sweep", "results", "cli", "__main__"},
)
APART = ROWS[4]
ALLOWED_ALL_THE_SAME = {("evaluation", "samplers")}


def nodes(tree: ast.AST, only_at_import: bool) -> Iterator[ast.AST]:
    """The nodes of a tree; without function bodies and type-checking blocks where only what runs at import counts."""
    for node in ast.iter_child_nodes(tree):
        if only_at_import:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
        yield node
        yield from nodes(node, only_at_import)


def imports(file: Path, only_at_import: bool = False) -> set[str]:
    """Dotted names of what a file imports; `from a import b` counts as a.b."""
    found = set()
    for node in nodes(ast.parse(file.read_text()), only_at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top_levels(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def sources(*patterns: str) -> list[Path]:
    return [file for pattern in patterns for file in sorted(ROOT.glob(pattern))]


def module_of(file: Path) -> str:
    """The first name below dpi_core: a subpackage counts as one module."""
    return file.relative_to(ROOT / "dpi_core").with_suffix("").parts[0]


def internal_edges() -> set[tuple[str, str]]:
    files = [file for file in sources("dpi_core/**/*.py") if file != ROOT / "dpi_core" / "__init__.py"]
    edges = {
        (module_of(file), name.split(".")[1])
        for file in files
        for name in imports(file)
        if name.startswith("dpi_core.")
    }
    return {(source, target) for source, target in edges if source != target}


def row_of(module: str) -> int:
    return next(i for i, row in enumerate(ROWS) if module in row)


def test_every_module_has_its_row():
    present = {module_of(file) for file in sources("dpi_core/**/*.py")} - {"__init__"}
    assert present <= set().union(*ROWS), "give the new module its row in ROWS"


def test_modules_import_their_own_row_and_those_above():
    upwards = {(source, target) for source, target in internal_edges() if row_of(target) > row_of(source)}
    assert upwards == set()


def test_what_consumes_a_denoiser_stays_apart():
    crossing = {(source, target) for source, target in internal_edges() if source in APART and target in APART}
    assert crossing <= ALLOWED_ALL_THE_SAME


def test_there_are_no_cycles():
    graph: dict[str, set[str]] = {}
    for source, target in internal_edges():
        graph.setdefault(source, set()).add(target)
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("file", sources("dpi_core/**/*.py"), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_library_knows_nothing_of_the_app(file):
    assert top_levels(file).isdisjoint({"app", "streamlit", "plotly"})


@pytest.mark.parametrize(
    ("pattern", "forbidden"),
    [
        ("app/figures/**/*.py", {"torch", "streamlit", "app.services", "app.views", "app.state"}),
        ("app/components/**/*.py", {"torch", "dpi_core", "app.services", "app.views", "app.state"}),
        ("app/views/**/*.py", {"torch"}),
        (
            "app/services/inference.py",
            {"streamlit", "app.services.cache", "app.views", "app.components", "app.figures"},
        ),
        (
            "app/services/worker.py",
            {"streamlit", "app.services.cache", "app.views", "app.components", "app.figures"},
        ),
        ("app/services/cache.py", {"app.views"}),
        ("app/services/*.py", {"app.views"}),
    ],
)
def test_layers_of_the_app_know_only_what_lies_below_them(pattern, forbidden):
    for file in sources(pattern):
        known = {name for name in imports(file) for bad in forbidden if f"{name}.".startswith(f"{bad}.")}
        assert known == set(), file


def test_only_the_cache_service_caches_in_streamlit():
    for file in sources("app/**/*.py"):
        if file != ROOT / "app" / "services" / "cache.py":
            attributes = {
                node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)
            }
            assert attributes.isdisjoint({"cache_data", "cache_resource"}), file


def reached_at_import(file: Path) -> set[str]:
    """Top-level packages and files reached from a file by what runs when it is imported."""
    seen, queue, packages = set(), [file], set()
    while queue:
        current = queue.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in imports(current, only_at_import=True):
            packages.add(name.split(".")[0])
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                stem = ROOT.joinpath(*parts[:end])
                queue += [path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]
    return packages


@pytest.mark.parametrize(
    "file",
    sources("app/main.py", "app/views/*.py", "app/figures/*.py"),
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_a_page_is_drawn_before_torch_is_imported(file):
    assert "torch" not in reached_at_import(file)
    assert "torch" in reached_at_import(ROOT / "dpi_core" / "__main__.py")


def test_importing_the_library_does_not_import_torch():
    program = "import sys, dpi_core; dir(dpi_core); assert 'torch' not in sys.modules; assert 'DPI' in dpi_core.__all__"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)


def test_signatures_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError, match="x_s"):
        ring_mixture().posterior_mean(torch.zeros(3, 2, 2), 1.0, 0.5)


def test_public_names_resolve_and_others_do_not():
    for name in dpi_core.__all__:
        assert getattr(dpi_core, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = dpi_core.nothing
