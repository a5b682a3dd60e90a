"""A reader's own images, on the pages that take some."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import state
from app.records import StoredModel, Upload
from app.services import cache
from app.services.own_models import Lease
from app.services.uploads import Received, read_images
from app.views.plain import plain
from dpi_core.limits import Limits


def choose_upload(model: StoredModel) -> Upload | None:
    """This session's own images in the model's shape; files that are none leave the last ones in place."""
    channels, height, width = shape = tuple(model.recipe["shape"])
    limits = Limits.from_environment()
    gray = " gray" if channels == 1 else ""
    files = st.file_uploader(
        f"Any image, several, or a folder dropped here: up to {limits.images} are cropped, resized to"
        f" {width} × {height}{gray} pixels, and kept for this session only.",
        accept_multiple_files=True,
        max_upload_size=-(-limits.image_bytes // 2**20),
        key=f"own images {state.upload_round()}",
    )
    if files:
        with st.spinner("Reading the images"):
            _take(read_images(files, shape))
        # What was sent has served its purpose; a list of sixty files would push the figure off the screen.
        state.let_go_of_files([file.file_id for file in files])
        st.rerun()
    if refused := [plain(sentence) for sentence in state.refused_images()]:
        st.error(refused[0] if len(refused) == 1 else "\n".join(f"- {sentence}" for sentence in refused))
    images = state.upload()
    return images if images is not None and images.shape[1:] == shape else None


def _take(received: Received) -> None:
    state.set_refused_images(received.refused)
    if received.upload is not None and received.upload != state.upload():
        state.set_upload(received.upload, Lease(partial(cache.engine().forget, state.session_id(), received.upload)))
