"""Writes BENCHMARKS.md from all files in benchmarks/results: `python -m benchmarks.report [--check]`.

Rows that miss their bound come first, with the reason that stands beside the benchmark.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, ROOT, Row

REPORT = ROOT / "BENCHMARKS.md"
NOTES = ROOT / "benchmarks" / "NOTES.md"
HEAD = "| what | bound | median | spread | n | beside it |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Table:
    """One results file."""

    title: str
    command: str
    machine: dict[str, Any]
    rows: list[Row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where BENCHMARKS.md differs from the results")
    check = parser.parse_args().check
    text = report(read_tables(RESULTS), NOTES.read_text())
    if check:
        sys.exit(0 if REPORT.exists() and REPORT.read_text() == text else "BENCHMARKS.md is not what the results give.")
    REPORT.write_text(text)


def read_tables(folder: Path) -> list[Table]:
    """All results, in the order of their files' names; those of samplers and the player have a page of their own."""
    contents = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    contents = [content for content in contents if "title" in content]
    return [Table(c["title"], c["command"], c["machine"], [Row(**row) for row in c["rows"]]) for c in contents]


def report(tables: Sequence[Table], notes: str) -> str:
    """The text of BENCHMARKS.md."""
    missed = [(table, row) for table in tables for row in table.rows if row.misses]
    within = sum(row.bound is not None and not row.misses for table in tables for row in table.rows)
    parts = [
        "# Benchmarks",
        "Written by `python -m benchmarks.report` from `benchmarks/results/*.json`; `python -m benchmarks.all` measures"
        " everything anew. A ratio is the median over pairs of measurements by turns, the spread their smallest and"
        " largest. Samplers and the player: [docs/trajectories.md](docs/trajectories.md).",
        f"## Missed: {len(missed)} of {len(missed) + within} rows with a bound",
        *([_table([row for _, row in missed])] if missed else ["None."]),
        *_reasons(missed),
        *(part for table in tables for part in _section(table)),
        notes.strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _reasons(missed: Sequence[tuple[Table, Row]]) -> list[str]:
    lines = [f"- {row.what}: {row.reason or 'not explained yet.'}" for _, row in missed]
    return ["\n".join(lines)] if lines else []


def _section(table: Table) -> list[str]:
    about = ", ".join(f"{key} {value}" for key, value in table.machine.items() if value is not None)
    return [f"## {table.title}", f"`{table.command}`. Measured on: {about}.", _table(table.rows)]


def _table(rows: Sequence[Row]) -> str:
    return "\n".join([HEAD, *map(_line, rows)])


def _line(row: Row) -> str:
    low, high = min(row.values), max(row.values)
    bound = "" if row.bound is None else f"≤ {row.bound:g}"
    median = f"{row.median:.3g} {row.unit}"
    cells = (row.what, bound, f"**{median}**" if row.misses else median, f"{low:.3g} to {high:.3g}", len(row.values))
    return "| " + " | ".join(map(str, (*cells, row.beside))) + " |"


if __name__ == "__main__":
    main()
