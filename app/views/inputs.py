"""The row that chooses the samples a page looks at: what is stored, kinds that are computed, images of one's own."""

from __future__ import annotations

from typing import cast

from streamlit.delta_generator import DeltaGenerator

from app.records import INPUT_KINDS, InputKind, Inputs, StoredModel
from app.views.own_images import choose_upload

STORED = "Stored"
"""The choice that needs no computation; the others are kinds of `Inputs`, capitalised."""


def choose_inputs(
    row: DeltaGenerator,
    model: StoredModel,
    seed: int,
    *,
    key: str,
    count: int,
    upload_least: int = 1,
    stored: str | None = None,
    unstored: str | None = None,
) -> Inputs | None:
    """The inputs to compute, or None for the stored results.

    Args:
        row: where the choice is drawn.
        model: on show.
        seed: of the inputs.
        key: of the choice, also in the URL.
        count: how many inputs; of an upload the most.
        upload_least: an upload of fewer images is taken several times, each time with noise of its own.
        stored: what the stored results show, in words; None where nothing is stored.
        unstored: without stored results and without a choice nothing is computed, and this is said; None computes the first kind.
    """
    kinds: tuple[InputKind, ...] = INPUT_KINDS if model.is_image else ("held-out", "samples")
    kinds = tuple(kind for kind in kinds if kind != "samples" or model.is_generative)
    options = [*([STORED] if stored is not None else []), *(kind.capitalize() for kind in kinds)]
    must = stored is not None or unstored is None
    chosen = row.segmented_control(
        "Inputs",
        options,
        default=options[0] if must else None,
        required=must,
        key=key,
        bind="query-params",
        label_visibility="collapsed",
    )
    if chosen == "Upload":
        images = choose_upload(model)
        if images is not None:
            inputs = Inputs.of_upload(images, seed, least=upload_least, most=count)
            row.caption(f"On {inputs.upload_in_words}.")
            return inputs
        row.caption(f"Shown until then: {stored}." if stored is not None else unstored or "")
        return None
    if chosen in (STORED, None):
        row.caption(stored if stored is not None else unstored or "")
        return None
    return Inputs(cast(InputKind, chosen.lower()), count, seed)
