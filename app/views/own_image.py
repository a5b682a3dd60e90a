"""A reader's own image, on the pages that take one."""

from __future__ import annotations

import streamlit as st

from app import state
from app.records import StoredModel, Upload
from app.services.uploads import MAX_BYTES, read_upload
from app.views.plain import plain


def choose_upload(model: StoredModel) -> Upload | None:
    """This session's own image in the model's shape; a file that is none leaves the last one in place."""
    channels, height, width = model.recipe["shape"]
    gray = " gray" if channels == 1 else ""
    file = st.file_uploader(
        f"Any image: it is cropped, resized to {width} × {height}{gray} pixels, and kept for this session only.",
        max_upload_size=MAX_BYTES // 2**20,
    )
    if file is not None:
        try:
            state.set_upload(read_upload(file.getvalue(), (channels, height, width)))
        except ValueError as error:
            st.error(plain(str(error)))
    image = state.upload()
    return image if image is not None and image.shape == (channels, height, width) else None
