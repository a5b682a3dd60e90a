"""Pages as files: the view where it stands, the figures, the numbers in words, and the lines that reproduce them.

Each function takes what its page shows and returns HTML that opens without a server and without a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.components import comparer, layers, scrubber, studio
from app.components.comparer import Row, comparer_data
from app.components.layers import LayersState, layers_data
from app.components.player import pack_plane, pack_run, standalone_player
from app.components.scrubber import ScrubberState, blob_hash, pack, scrubber_data
from app.components.standalone import mounted, numbers, paragraph, standalone_page, table
from app.components.studio import Measured, StudioState, pack_landscape, studio_data
from app.figures.attribution import attribution_chart, completeness_chart
from app.figures.beside import second_headlines, what_compares
from app.figures.chart import Chart, Table
from app.figures.comparisons import colour_of, frame_values, method_of
from app.figures.denoise import Second, sweep_figure
from app.figures.distances import histogram_chart, singular_values_chart
from app.figures.offline_parts import MOST_FRAME_BYTES, ending, thinned, thinned_in_words, thinned_run, with_charts
from app.figures.one_layer import HEIGHT, cka_chart, spectrum_chart
from app.figures.pairs import Shown, along, bars, judged, path
from app.figures.parameters import Headline, headlines, landscape_chart, studio_landscape, studio_lines
from app.figures.paths import blend_loss_chart, blend_pictures, gap_chart, kept_chart
from app.figures.pinning import kept_layers_chart, pins_chart
from app.figures.trajectories import ABOUT_ROWS, Found, plane_figure, run_figure, sentence, summary_rows
from app.records import Inputs, LayerDetailResult, LayersResult, PlaneResult, StoredModel, SweepResult, TrajectoryResult

ELSEWHERE = "The other layers are not in this file: open the page in the app."


@dataclass(frozen=True)
class Origin:
    """Where a page comes from.

    Attributes:
        model: on show.
        about: weights, seed, device and versions, as in the archive that reproduces a picture.
        lines: title -> Python that computes what is shown.
    """

    model: StoredModel
    about: Mapping[str, object]
    lines: Mapping[str, str]

    def parts(self) -> list[str]:
        """What stands at the end of the page."""
        return ending(self.about, self.lines)


def denoise_page(
    origin: Origin,
    sweep: SweepResult,
    blobs: tuple[bytes, bytes | None],
    second: Second | None,
    family: Sequence[StoredModel],
    start: ScrubberState,
    sentence: str,
    scores: Sequence[tuple[str, str, str]],
) -> str:
    """The Denoise page: the scrubber with its frames.

    Args:
        origin: of the page.
        sweep: the frames.
        blobs: the packed frames, and those of the pad if it is shown.
        second: the model beside the first, if there is one.
        family: the models whose held-out error is drawn.
        start: where the scrubber stands.
        sentence: what is seen there.
        scores: the family's held-out error there.
    """
    frames, pad = blobs
    notes, every = [], -(-len(frames) // MOST_FRAME_BYTES)
    if pad is not None and len(frames) + len(pad) > MOST_FRAME_BYTES:
        pad, start = None, ScrubberState(start.s)
        notes.append(paragraph("The plane of noise level and λ is left out: its frames would make the file too large."))
    if every > 1:
        beside = None if second is None else (second[0], thinned(second[1], every))
        frames = pack(sweep_figure(origin.model, family, thinned(sweep, every), beside))
        notes.append(paragraph(thinned_in_words(every)))
    data = scrubber_data(blob_hash(frames), None if pad is None else blob_hash(pad), start)
    return standalone_page(
        [
            mounted(scrubber.VIEW, [frames, *([] if pad is None else [pad])], data),
            paragraph(f"As the page stood when it was saved: {sentence}"),
            *notes,
            numbers(scores, f"Held-out error at t = {start.s:.2f}" if scores else ""),
            *origin.parts(),
        ],
        title=f"{origin.model.name}: Denoise",
        about=origin.about,
    )


def parameters_page(
    origin: Origin,
    shown: Shown,
    now: StudioState,
    measured: Measured | None,
    quantity: str,
    statistic: str,
    pictures: tuple[bytes, bytes] | None,
) -> str:
    """The Parameters page: the λ studio, and all figures of its tabs.

    Args:
        origin: of the page; the lines that measure the curve are added.
        shown: what the page shows.
        now: where the studio stands.
        measured: of drawn curves, where they cannot be looked up.
        quantity: that is drawn along the path.
        statistic: of the bars.
        pictures: the packed sweep and pad that the studio shows, if it does.
    """
    model, cursor = shown.model, now.s
    landscape = pack_landscape(studio_landscape(model, shown.result))
    curve = None if shown.beside is None else shown.beside.curve(shown.result.landscape.s)
    above = [_headlines(headlines(model, shown.result, shown.inputs), model.name)]
    if shown.beside is not None:
        above += [
            _headlines(second_headlines(shown.beside), shown.beside.model.name),
            paragraph(what_compares(shown.beside)),
        ]
    lines = {
        "Python that measures the curve of the studio": studio_lines(
            model, shown.result, shown.inputs, now.curves, shown.device
        )
    }
    shown_pictures = () if pictures is None or sum(map(len, pictures)) > MOST_FRAME_BYTES else pictures
    charts = [*_distance_charts(shown, quantity, statistic, cursor), *_judged_charts(shown, cursor)]
    data = studio_data(blob_hash(landscape), now, measured, curve, *map(blob_hash, shown_pictures))
    view = mounted(studio.VIEW, [landscape, *shown_pictures], {**data, "alone": True})
    below = with_charts(charts, origin.about, {**lines, **origin.lines})
    return standalone_page([*above, view, *below], title=f"{model.name}: Parameters", about=origin.about)


def _distance_charts(shown: Shown, quantity: str, statistic: str, cursor: float) -> list[Chart]:
    model, weights = shown.model, shown.result.weights
    edges, counts = weights.histogram_edges[0], weights.histogram_counts[0]
    return [
        bars(shown, "stage", statistic, False),
        along(shown, quantity, cursor),
        singular_values_chart(model, weights, weights.spectrum_names[0], shown.lam_at(cursor)),
        histogram_chart(model, weights.histogram_names[0], edges, counts),
    ]


def _judged_charts(shown: Shown, cursor: float) -> list[Chart]:
    about = (shown.model, shown.result, shown.inputs, shown.device)
    return [
        path(shown, cursor),
        judged(shown, kept_chart),
        judged(shown, gap_chart),
        judged(shown, blend_loss_chart, cursor),
        judged(shown, landscape_chart),
        blend_pictures(*about, cursor, 0.5),
    ]


def layers_page(
    origin: Origin,
    result: LayersResult,
    judges: Inputs,
    device: str,
    now: LayersState,
    blobs: tuple[bytes, bytes | None],
    detail: LayerDetailResult | None,
    sentence: str,
) -> str:
    """The Layers page: the table, the selected layer, and the figures of the whole network.

    Args:
        origin: of the page.
        result: of all layers.
        judges: the samples behind it.
        device: that computed.
        now: what is chosen.
        blobs: the packed table and layer.
        detail: the layer, if it is there.
        sentence: which layers need a second set; may be empty.
    """
    packed, layer = blobs
    model, about = origin.model, (origin.model, result, judges, device)
    charts: list[Chart | None] = []
    if detail is not None:
        entries = (detail.layer, detail.histogram_edges, detail.histogram_counts)
        charts = [
            histogram_chart(model, *entries, HEIGHT) if model.has_two_sets else None,
            spectrum_chart(model, detail),
        ]
        charts.append(cka_chart(model, result, detail.layer, judges, device, now.s))
    if model.has_two_sets:
        charts += [kept_layers_chart(*about), pins_chart(*about, by_value=True)]
        charts += [attribution_chart(*about, now.s, by_value=True), completeness_chart(*about, now.s)]
    data = layers_data(blob_hash(packed), now, None if layer is None else blob_hash(layer), ELSEWHERE)
    return standalone_page(
        [
            *([paragraph(sentence)] if sentence else []),
            mounted(layers.VIEW, [packed, *([] if layer is None else [layer])], data),
            *with_charts([chart for chart in charts if chart is not None], origin.about, origin.lines),
        ],
        title=f"{model.name}: Layers",
        about=origin.about,
    )


def compare_page(
    origin: Origin,
    models: Sequence[StoredModel],
    sweeps: Sequence[SweepResult],
    shown: int,
    s: float,
    sentences: Sequence[str],
    charts: Sequence[Chart],
    tables: Sequence[Table],
) -> str:
    """The Compare page: the rows of all methods, the verdict, and the figures and tables.

    Args:
        origin: of the page.
        models: of the rows.
        sweeps: their frames of the same inputs.
        shown: how many inputs.
        s: where the rows stand.
        sentences: the verdict.
        charts: error, differences, wins, samples.
        tables: scores and costs.
    """
    names = [method_of(model) for model in models]
    few = [_first_inputs(sweep, shown) for sweep in sweeps]
    every = -(-sum(sweep.x0_hat.size for sweep in few) // MOST_FRAME_BYTES)
    rows, blobs = [], []
    for name, model, sweep in zip(names, models, (thinned(sweep, every) for sweep in few), strict=True):
        blobs.append(pack(sweep_figure(model, [], sweep)))
        rows.append(Row(name, blob_hash(blobs[-1]), colour_of(name, names), frame_values(model, sweep, shown)))
    thin = [paragraph(thinned_in_words(every))] if every > 1 else []
    return standalone_page(
        [
            mounted(comparer.VIEW, blobs, comparer_data(rows, s, shown, origin.model.family)),
            *map(paragraph, sentences),
            *thin,
            *map(_table, tables),
            *with_charts(charts, origin.about, origin.lines),
        ],
        title=f"{origin.model.family}: Compare",
        about=origin.about,
    )


def trajectories_page(
    origin: Origin, names: Sequence[str], found: Sequence[Found], plane: PlaneResult | None, s: float
) -> str:
    """The Trajectories page: the player, and what the runs came to.

    Args:
        origin: of the page.
        names: of the runs.
        found: the runs.
        plane: in which their paths are shown, or None.
        s: where the player stands.
    """
    results = [result for _, result in found]
    blobs = _packed_runs(names, results)
    every = -(-sum(map(len, blobs)) // MOST_FRAME_BYTES)
    if every > 1:
        results = [thinned_run(result, every) for result in results]
        blobs = _packed_runs(names, results)
    paths = None if plane is None else pack_plane(plane_figure(plane, results))
    rows = summary_rows(found)
    header = list(dict.fromkeys(name for row in rows for name in row))
    return standalone_page(
        [
            standalone_player(blobs, s, paths),
            paragraph(f"As the page stood when it was saved: {sentence(found, s)}"),
            *([paragraph(thinned_in_words(every))] if every > 1 else []),
            table("Runs", header, [[row.get(name, "–") for name in header] for row in rows], ABOUT_ROWS),
            *origin.parts(),
        ],
        title=f"{origin.model.name}: samples from noise, seed {found[0][0].inputs.seed}",
        about=origin.about,
    )


def _packed_runs(names: Sequence[str], results: Sequence[TrajectoryResult]) -> list[bytes]:
    return [pack_run(run_figure(name, result)) for name, result in zip(names, results, strict=True)]


def _first_inputs(sweep: SweepResult, count: int) -> SweepResult:
    clean, noise = sweep.clean[:count], sweep.noise[:count]
    return replace(sweep, clean=clean, noise=noise, x0_hat=sweep.x0_hat[:, :count], mse=sweep.mse[:, :count])


def _headlines(found: Sequence[Headline], name: str) -> str:
    return numbers([(each.label, each.value, each.remark) for each in found], name)


def _table(shown: Table) -> str:
    return table(shown.title, shown.header, shown.rows, shown.caption)
