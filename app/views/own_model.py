"""Loading a model of one's own: files handed over, a folder of the server, or a repository on the Hub."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app import state
from app.records import Source
from app.services import cache, own_models, stored
from app.views.plain import plain

UPLOAD, FOLDER, HUB = "Upload files", "Folder on the server", "Hugging Face Hub"


def load_form() -> None:
    """The ways to load a model; what is wrong with one is said in a sentence."""
    with st.expander("Load a model of your own", key=state.LOADING):
        ways: dict[str, Callable[[], None]] = {UPLOAD: _upload, FOLDER: _folder, HUB: _hub}
        way = st.segmented_control(
            "From", list(ways), default=UPLOAD, required=True, key=state.LOAD_FROM, label_visibility="collapsed"
        )
        ways[str(way)]()


def remove(source: Source) -> None:
    """Takes a model of this session's own off the list; uploaded files are deleted."""
    if source.origin == "upload":
        cache.uploads().remove(source)
    state.set_own_models(own for own in state.own_models() if own.name != source.name)


def _upload() -> None:
    idle = f"{own_models.IDLE_SECONDS / 3600:g} hours"
    with st.form(f"upload a model {state.upload_round()}", border=False):
        files = st.file_uploader(
            f"{' and '.join(own_models.NEEDED)}; if you have them also {', '.join(stored.FILES[2:])}",
            accept_multiple_files=True,
            key=f"model files {state.upload_round()}",
        )
        pressed = st.form_submit_button("Check and load")
    st.caption(
        f"Files stay on this server for this session alone, at most {idle} after you last used it. `dpi_core.save` writes"
        " them. Nothing in them is run."
    )
    if not pressed:
        return
    uploads, session = cache.uploads(), state.session_id()
    state.keep_lease(uploads.lease, uploads.touch)
    content = {file.name: file.getbuffer() for file in files or []}

    def receive(known: list[Source]) -> Source:
        source = uploads.receive(session, content, known)
        state.let_go_of_files(file.file_id for file in files or [])
        return source

    _take(receive)


def _folder() -> None:
    offered = own_models.offered()
    if not own_models.roots():
        st.caption("No folder of this server is open. Its operator names them before the start: `DPI_ROOTS=/models`.")
        return
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = row.selectbox(
        f"A checkpoint folder below {' or '.join(map(str, own_models.roots()))}",
        offered,
        index=None,
        accept_new_options=True,
        placeholder="choose or type a folder",
        key=state.FOLDER,
    )
    if row.button("Check and load", disabled=not chosen):
        _take(lambda known: own_models.from_folder(str(chosen), known))


def _hub() -> None:
    if not own_models.hub_is_open():
        st.caption("The operator of this server has closed the Hub (`DPI_HUB=0`).")
        return
    row = st.container(horizontal=True, vertical_alignment="bottom")
    text = row.text_input("A repository", placeholder="owner/repository, or owner/repository@revision", key=state.HUB)
    if row.button("Download and load", disabled=not text):
        _take(lambda known: own_models.from_hub(text, known))
    st.caption("Asks the Hub for this repository's weights, config, scores and card; nothing else leaves this machine.")


def _take(load: Callable[[list[Source]], Source]) -> None:
    """Loads a model, adds it to the session's and puts it on show; or says what is wrong."""
    try:
        with st.spinner("Checking the files"):
            source = load(cache.sources())
    except ValueError as error:
        st.error(plain(str(error)))
        return
    state.set_own_models([*(own for own in state.own_models() if own.folder != source.folder), source])
    state.set_news(f"{source.name} is loaded, and on every page's list of models.")
    st.rerun()
