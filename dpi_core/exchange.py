"""`python -m dpi_core import` and `export`: weights from and for other people's programs."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from dpi_core import checkpoint
from dpi_core.build import load_recipe
from dpi_core.card import command_line
from dpi_core.exporting import FORMATS, about, plain_network
from dpi_core.interpolation import DPI
from dpi_core.model import Model
from dpi_core.reference_format import TABLES, export_reference, import_reference
from dpi_core.state_dicts import SAFETENSORS, TORCH, read_state_dict

REFERENCE = "reference"


def run_import(options: argparse.Namespace) -> None:
    """Puts a state dict in the reference implementation's convention onto a recipe's backbone; says what matched."""
    recipe = load_recipe(options.onto)
    recipe = recipe if options.name is None else dataclasses.replace(recipe, name=options.name)
    place = options.out / recipe.name
    if (place / checkpoint.WEIGHTS).exists():
        raise ValueError(
            f"{place} is a checkpoint already; give the new one another name by --name, or a place by --out."
        )
    model, report = import_reference(recipe, read_state_dict(options.file, options.key), options.noise_first)
    print(report)
    if not report.complete and not options.partial:
        raise ValueError(
            f"{options.file} is not the weights of {options.onto}'s backbone (above, what does not match and why), so nothing"
            " was written; mend the recipe, or write what matched by --partial."
        )
    parameters = sum(p.numel() for p in model.net.parameters())
    command = command_line(
        *("import", options.file.name),
        onto=options.onto,
        name=options.name,
        key=options.key,
        noise_first=options.noise_first,
        partial=options.partial,
        allow=options.allow,
    )
    model.metrics |= {"parameters": parameters, "imported": {"command": command, "complete": report.complete}}
    print(checkpoint.save(model, place))


def run_export(options: argparse.Namespace, place: Callable[[str], str | Path]) -> None:
    """Writes a checkpoint for other programs: in the reference's convention, or the plain network θ(s)."""
    model = checkpoint.load(place(options.checkpoint))
    file = options.out if options.out is not None else _default_file(model, options)
    if options.to == REFERENCE:
        return _export_reference(model, file, options)
    network = plain_network(model, options.s)
    ending, write = FORMATS[options.to]
    if file.suffix != ending:
        raise ValueError(
            f"{file} ends in {file.suffix!r}, but {options.to} is written to files that end in {ending!r}."
        )
    write(file, network, model.recipe.shape, about(model, options.s))
    print(file)


def _export_reference(model: Model, file: Path, options: argparse.Namespace) -> None:
    if not isinstance(model.net, DPI):
        raise ValueError(
            f"{model.recipe.name} has one parameter set; the reference's files hold two: choose a DPI model."
        )
    if options.s is not None:
        raise ValueError("--s is one network of many, but the reference's files hold both sets; leave --s out.")
    tensors = export_reference(model.net, options.table)
    if file.suffix == SAFETENSORS:
        checkpoint.write_tensors(file, tensors)
    elif file.suffix in TORCH:
        torch.save(tensors, file)
    else:
        raise ValueError(f"{file} ends in {file.suffix!r}; give a name that ends in {SAFETENSORS} or {TORCH[0]}.")
    print(file)
    if model.net.schedule.rounding != "nearest":
        print("λ is continuous here; the reference reads its table at the nearest of its entries.")


def _default_file(model: Model, options: argparse.Namespace) -> Path:
    if options.to == REFERENCE:
        return Path(f"{model.recipe.name}-reference{TORCH[0]}")
    place = "" if options.s is None else f"-s{options.s:g}"
    return Path(f"{model.recipe.name}{place}{FORMATS[options.to][0]}")


def add_commands(
    commands: argparse._SubParsersAction,
    foreign: argparse.ArgumentParser,
    out: Path,
    place: Callable[[str], str | Path],
) -> None:
    """Adds both commands to the parser of `python -m dpi_core`.

    Args:
        commands: where.
        foreign: the options that allow backbones of others.
        out: the folder checkpoints are made in.
        place: finds a checkpoint by its name.
    """
    reading = commands.add_parser("import", parents=[foreign], help=(run_import.__doc__ or "").rstrip("."))
    reading.add_argument("file", type=Path, help="a state dict: .safetensors, or .pt, of which nothing is executed")
    reading.add_argument("--onto", required=True, metavar="RECIPE", help="a recipe's name, or a JSON file")
    reading.add_argument("--name", help="of the checkpoint, instead of the recipe's")
    reading.add_argument("--key", help="which state dict of a .pt file that holds several, for example ema")
    reading.add_argument(
        "--noise-first", action="store_true", help="the file's t is 0 at the noise end, as a flow's may be"
    )
    reading.add_argument("--out", type=Path, default=out, help="where the checkpoint's folder is made")
    reading.add_argument("--partial", action="store_true", help="write what matched although something does not")
    reading.set_defaults(run=run_import)

    writing = commands.add_parser("export", parents=[foreign], help=(run_export.__doc__ or "").rstrip("."))
    writing.add_argument("checkpoint", help="a folder, or a name in checkpoints/")
    writing.add_argument("--to", required=True, choices=(REFERENCE, *FORMATS), help="the format")
    writing.add_argument("--s", type=float, help="which network θ(s), in [0, 1]")
    writing.add_argument("--table", choices=TABLES, default=TABLES[0], help="what the reference calls the table of λ")
    writing.add_argument("--out", type=Path, help="the file; by default named after the model, here")
    writing.set_defaults(run=lambda options: run_export(options, place))
