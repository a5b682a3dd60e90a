"""`python -m dpi_core`: train, sweep, judge, evaluate, report, analyse, halve, sample, import, export, info."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from dpi_core import checkpoint, hub
from dpi_core.allocator import keep_freed_memory
from dpi_core.backbones.foreign import VARIABLE, allowing
from dpi_core.build import Recipe, load_recipe, recipe_to_dict
from dpi_core.card import command_line, model_card
from dpi_core.data import Data, DataConfig, ImageData, download_fashion_mnist, load_data
from dpi_core.exchange import add_commands
from dpi_core.halving import MAX_LOSS_DB, cost_of_halving
from dpi_core.interpolation import DPI
from dpi_core.judges import EPOCHS, find_judge, save_judge, train_judge
from dpi_core.own_images import denoise_folder, psnr_by_sigma
from dpi_core.parallel import join
from dpi_core.reports import PARTS, evaluate, pictures
from dpi_core.results import results_page, sweep_table
from dpi_core.runs import train_run
from dpi_core.samplers import Dopri5
from dpi_core.sweep import load_sweep, sweep

CHECKPOINTS = Path("checkpoints")
RUNS = Path("runs")
JUDGES = RUNS / "judges"
RESULTS = Path("results")


def main(arguments: list[str] | None = None) -> None:
    """Runs one command; a ValueError becomes one sentence and exit status 2."""
    options = _parser().parse_args(arguments)
    keep_freed_memory()
    try:
        with allowing(getattr(options, "allow", ())):
            options.run(options)
    except (ValueError, FloatingPointError, OSError) as error:
        # Those of the system name no remedy; ours have no number.
        remedy = "; see to the disk, and run the same again" if getattr(error, "errno", None) else ""
        print(f"dpi_core {options.command}: {error}{remedy}", file=sys.stderr)
        sys.exit(2)


def run_train(options: argparse.Namespace) -> None:
    """Trains a recipe, resuming the run if it was interrupted, and saves the checkpoint."""
    recipe = _with_overrides(load_recipe(options.recipe), options)
    start = None if options.init is None else checkpoint.load(_place(options.init))
    with join(options.device) as team:
        model = train_run(recipe, _data(recipe, options), options.runs / recipe.name, team, start)
        if team.leads:
            command = command_line(
                *("train", options.recipe),
                data="PATH" if options.data else None,
                init=options.init,
                steps=options.steps,
                seed=options.seed,
                allow=options.allow,
            )
            model.metrics["training"] |= {"command": command, "note": options.note}
            print(checkpoint.save(model, options.out / recipe.name))


def run_evaluate(options: argparse.Namespace) -> None:
    """Measures a checkpoint on held-out data and writes metrics.json and the model card; or on images of one's own."""
    if options.images is not None:
        return _evaluate_images(options)
    folder = _own_folder(options.checkpoint)
    model = checkpoint.load(folder, options.device)
    data = _data(model.recipe, options)
    judge = find_judge(data, model.recipe.data, options.data, JUDGES, options.device)
    scores = evaluate(model, data, judge, _progress)
    model.metrics.update(scores)
    checkpoint.write_json(folder / checkpoint.METRICS, model.metrics)
    checkpoint.write_text(folder / checkpoint.CARD, model_card(model))
    print(json.dumps(scores, indent=1, ensure_ascii=False))


def _evaluate_images(options: argparse.Namespace) -> None:
    """Prints the PSNR of denoised images; keeps the means with the checkpoint where a name for them is given."""
    place = _own_folder(options.checkpoint) if options.record else _place(options.checkpoint)
    model = checkpoint.load(place, options.device)
    steps = denoise_folder(model, options.images, options.sigma, options.seed)
    scores = psnr_by_sigma(list(tqdm(steps, desc="images", unit="image and σ")))
    if options.json:
        print(json.dumps(scores, ensure_ascii=False))
    else:
        for sigma, found in scores["sigma"].items():
            low, high = found["ci95"]
            print(f"σ = {sigma}: {found['psnr_mean']:.2f} dB ({low:.2f} to {high:.2f}), {len(found['psnr'])} images")
    if options.record:
        kept = {
            sigma: {"psnr_mean": found["psnr_mean"], "ci95": found["ci95"], "n": len(found["psnr"])}
            for sigma, found in scores["sigma"].items()
        }
        model.metrics.setdefault("images", {})[options.record] = {"sigma": kept}
        checkpoint.write_json(Path(place) / checkpoint.METRICS, model.metrics)


def run_sweep(options: argparse.Namespace) -> None:
    """Trains and judges methods × seeds of one config; goes on where it was stopped."""
    if options.smoke == (options.config is not None):
        raise ValueError("give the config of a sweep, or --smoke for the smallest one that comes with the package.")
    config = load_sweep("smoke" if options.smoke else options.config)
    _, _, recipe = config.runs()[0]
    data = _data(recipe, options)
    judge = find_judge(data, recipe.data, options.data, JUDGES, options.device)
    result = sweep(
        config, data, options.runs / config.name, options.device, judge, only=options.only, timed=not options.untimed
    )
    if result is None:
        return
    if not options.smoke:
        (options.results / config.name).mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(options.results / config.name / checkpoint.METRICS, result)
    print(sweep_table(result))


def run_judge(options: argparse.Namespace) -> None:
    """Trains a classifier of an image set with labels, to judge samples by."""
    data = load_data(DataConfig("idx"), options.data)
    if not isinstance(data, ImageData):
        raise ValueError("a judge needs images with labels; give the folder of idx files by --data.")
    judge = train_judge(data, options.data, options.epochs, options.device)
    save_judge(judge, options.out)
    print(f"{options.out}: {100 * judge.accuracy:.1f} % of {judge.held_out} held-out images are named rightly")


def run_report(options: argparse.Namespace) -> None:
    """Writes RESULTS.md from the metrics.json files of models and sweeps."""
    page = results_page(CHECKPOINTS, options.results)
    if not options.check:
        checkpoint.write_text(options.out, page)
        print(options.out)
    elif not options.out.is_file() or options.out.read_text() != page:
        raise ValueError(f"{options.out} is not what the metrics say; write it anew by python -m dpi_core report.")


def run_analyse(options: argparse.Namespace) -> None:
    """Computes what the app shows first and stores it with the checkpoint, each part as soon as it is there."""
    folder = _own_folder(options.checkpoint)
    model = checkpoint.load(folder, options.device)
    file, data = folder / checkpoint.ANALYSIS, _data(model.recipe, options)
    try:
        tensors, about = _stored_analysis(file)
    except ValueError:
        if set(options.only) != set(PARTS):
            raise
        tensors, about = {}, {}
    painter = options.samples_of and checkpoint.load(_place(options.samples_of), options.device)
    shown = pictures(model, data, painter)
    for part in (PARTS[name] for name in PARTS if name in options.only):
        found, about_found = part.analyse(model, data, shown, _progress)
        tensors = {name: value for name, value in tensors.items() if not name.startswith(part.tensors)} | found
        about = {key: value for key, value in about.items() if key not in part.about} | about_found
        checkpoint.write_tensors(file, tensors, {"about": json.dumps(about, ensure_ascii=False)})
    print(file)


def _stored_analysis(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a checkpoint stores for the app so far: tensors, and the JSON that says what they are.

    Raises:
        ValueError: the file is damaged.
    """
    if not file.is_file():
        return {}, {}
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, json.loads(stored.metadata()["about"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); run analyse without --only, which writes it anew.") from error


def run_halve(options: argparse.Namespace) -> None:
    """Stores a checkpoint's weights in 16 bits, unless its held-out PSNR changes by 0.01 dB or more."""
    folder = _own_folder(options.checkpoint)
    model = checkpoint.load(folder, options.device)
    found = cost_of_halving(model, _data(model.recipe, options).held_out_batch(options.n, 0))
    said = f"{found.whole:.4f} dB whole, {found.half:.4f} dB in 16 bits"
    if not found.harmless:
        raise ValueError(f"{folder} keeps its weights: {said}, a change of {MAX_LOSS_DB} dB or more.")
    analysed = (folder / checkpoint.ANALYSIS).is_file()
    checkpoint.save(model, folder, half=True)
    print(f"{folder}: {said}")
    if analysed:
        print(f"{checkpoint.ANALYSIS} was of the whole weights and is gone; run: python -m dpi_core analyse {folder}")


def run_sample(options: argparse.Namespace) -> None:
    """Draws samples and writes them as safetensors."""
    model = checkpoint.load(_place(options.checkpoint), options.device)
    result = model.sample(options.n, _sampler(options), options.steps, options.seed)
    checkpoint.write_tensors(options.out, {"x": result.x}, {"seed": str(options.seed), "nfe": str(result.nfe)})
    print(f"{options.out}: x of shape {tuple(result.x.shape)}, {result.nfe} network evaluations each")


def run_info(options: argparse.Namespace) -> None:
    """Prints what a checkpoint is."""
    model = checkpoint.load(_place(options.checkpoint))
    print(json.dumps(recipe_to_dict(model.recipe), indent=1))
    print(f"parameters: {sum(p.numel() for p in model.net.parameters()):,}")
    if isinstance(model.net, DPI):
        print(f"saturation: {model.net.schedule.saturation()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dpi_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    foreign = argparse.ArgumentParser(add_help=False)
    foreign.add_argument(
        "--allow",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help=f"run this function to make a backbone that is not ours, beside those in {VARIABLE}",
    )
    device = argparse.ArgumentParser(add_help=False, parents=[foreign])
    device.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data", type=Path, help="folder with the data set's files (kinds idx, image_folder and patches)"
    )
    data.add_argument("--download", action="store_true", help="fetch Fashion-MNIST into the folder of --data first")

    training = commands.add_parser("train", parents=[device, data], help="train a recipe; goes on where a run stopped")
    training.add_argument("recipe", help="a recipe's name, or a JSON file")
    training.add_argument("--out", type=Path, default=CHECKPOINTS, help="where the checkpoint's folder is made")
    training.add_argument("--runs", type=Path, default=RUNS, help="where logs and resume states lie")
    training.add_argument("--init", help="a trained checkpoint whose weights a new run starts with")
    training.add_argument("--steps", type=int, help="instead of the recipe's")
    training.add_argument("--seed", type=int, help="instead of the recipe's")
    training.add_argument("--note", default="", help="a remark for the model card")
    training.set_defaults(run=run_train)

    for name, run in (("evaluate", run_evaluate), ("analyse", run_analyse), ("halve", run_halve)):
        command = commands.add_parser(name, parents=[device, data], help=(run.__doc__ or "").rstrip("."))
        command.add_argument("checkpoint", help="a folder, or a name in checkpoints/")
        command.set_defaults(run=run)
    commands.choices["halve"].add_argument("--n", type=int, default=60, help="held-out samples it is judged on")
    own = commands.choices["evaluate"]
    own.add_argument("--images", type=Path, help="denoise the images below this folder instead of the held-out data")
    own.add_argument("--sigma", type=float, nargs="+", default=[15.0, 25.0, 50.0], help="noise on 0..255")
    own.add_argument("--seed", type=int, default=0, help="of the noise of --images")
    own.add_argument("--json", action="store_true", help="print the scores of --images as JSON")
    own.add_argument("--record", metavar="NAME", help="keep the means of --images in metrics.json under this name")
    commands.choices["analyse"].add_argument(
        "--only",
        choices=PARTS,
        nargs="+",
        default=list(PARTS),
        help="compute these anew, keep the rest of what is stored",
    )
    commands.choices["analyse"].add_argument(
        "--samples-of",
        metavar="NAME",
        help="a model in checkpoints/ whose samples stand for data that may not be passed on, as its family shows them"
        " (default: the model's own)",
    )

    sweeping = commands.add_parser("sweep", parents=[device, data], help=(run_sweep.__doc__ or "").rstrip("."))
    sweeping.add_argument("config", nargs="?", help="a sweep's name, or a JSON file")
    sweeping.add_argument("--smoke", action="store_true", help="the smallest sweep, to see that everything works")
    sweeping.add_argument(
        "--only",
        metavar="METHOD-SEED",
        nargs="+",
        default=(),
        help="train these runs alone and sum nothing up: for several processes that share a sweep",
    )
    sweeping.add_argument(
        "--untimed", action="store_true", help="take each method's cost from the last summary instead of measuring it"
    )
    sweeping.add_argument("--runs", type=Path, default=RUNS / "sweeps", help="where the runs lie")
    sweeping.add_argument("--results", type=Path, default=RESULTS, help="where the scores are kept")
    sweeping.set_defaults(run=run_sweep)

    judging = commands.add_parser("judge", parents=[device], help=(run_judge.__doc__ or "").rstrip("."))
    judging.add_argument("--data", type=Path, required=True, help="folder of idx files, images and labels")
    judging.add_argument("--epochs", type=int, default=EPOCHS)
    judging.add_argument("--out", type=Path, required=True, help="the safetensors file that is written")
    judging.set_defaults(run=run_judge)

    report = commands.add_parser("report", help=(run_report.__doc__ or "").rstrip("."))
    report.add_argument("--check", action="store_true", help="only say whether the page is what the metrics say")
    report.add_argument("--results", type=Path, default=RESULTS, help="where the scores of sweeps are kept")
    report.add_argument("--out", type=Path, default=Path("RESULTS.md"))
    report.set_defaults(run=run_report)

    sample = commands.add_parser("sample", parents=[device], help="draw samples")
    sample.add_argument("checkpoint", help="a folder, or a name in checkpoints/")
    sample.add_argument("--n", type=int, default=16)
    sample.add_argument("--sampler", help="instead of the recipe's")
    sample.add_argument("--steps", type=int, help="instead of the recipe's")
    sample.add_argument("--rtol", type=float, help="relative tolerance of --sampler dopri5")
    sample.add_argument("--atol", type=float, help="absolute tolerance of --sampler dopri5")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, default=Path("samples.safetensors"))
    sample.set_defaults(run=run_sample)

    add_commands(commands, foreign, CHECKPOINTS, _place)

    info = commands.add_parser("info", parents=[foreign], help="say what a checkpoint is")
    info.add_argument("checkpoint", help="a folder, or a name in checkpoints/")
    info.set_defaults(run=run_info)
    return parser


def _with_overrides(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    changes = {key: getattr(options, key) for key in ("steps", "seed") if getattr(options, key) is not None}
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **changes))


def _sampler(options: argparse.Namespace) -> str | Dopri5 | None:
    tolerances = {key: getattr(options, key) for key in ("rtol", "atol") if getattr(options, key) is not None}
    if tolerances and options.sampler != "dopri5":
        raise ValueError(
            f"--{next(iter(tolerances))} is a tolerance of --sampler dopri5; leave it out, or take dopri5."
        )
    return Dopri5(**tolerances) if tolerances else options.sampler


def _data(recipe: Recipe, options: argparse.Namespace) -> Data:
    if options.download:
        if options.data is None:
            raise ValueError("--download needs --data PATH, the folder to put the files in.")
        download_fashion_mnist(options.data)
    return load_data(recipe.data, options.data)


def _place(name: str) -> str | Path:
    """A checkpoint by its folder, by its name in checkpoints/, or on the Hub."""
    return name if hub.is_address(name) or Path(name).is_dir() else CHECKPOINTS / name


def _own_folder(name: str) -> Path:
    """The folder of a checkpoint that is to be written to."""
    if hub.is_address(name):
        repo, _ = hub.parse(name)
        raise ValueError(
            f"{name} lies in the Hub's cache, where other programs find it too and nothing is changed; fetch it by"
            f" `hf download {repo} --local-dir FOLDER`, and give that folder."
        )
    return Path(_place(name))


def _progress(steps: Iterable, total: int, label: str) -> Iterable:
    return tqdm(steps, total=total, desc=label)
