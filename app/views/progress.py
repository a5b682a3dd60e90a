"""Work that takes longer than a moment: how far it is, Cancel, and what became of it. Every page uses this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from app import state
from app.records import Request, Result
from app.services import cache
from app.services.inference import Job
from app.views.plain import plain

T = TypeVar("T", bound=Result)

SOON = 0.1
"""Seconds in which a small answer is waited for: no bar has to appear and vanish for it."""


def computed(request: Request, answer: type[T], label: str, back: Callable[[], None] | None = None) -> T | None:
    """What the engine has for a request; until then it shows, where it is called, how far it is.

    The page is drawn again as soon as the answer is there. A failure is one sentence with "Try again".

    Args:
        request: what is asked for.
        answer: the type of its result.
        label: names the work in a few words.
        back: called on "Cancel", to choose something that is there already; without it the page says that the work was
            cancelled and offers it again.
    """
    if back is None and state.was_cancelled(request):
        _offer(label, request)
        return None
    job = cache.engine().submit(state.session_id(), request)
    job.wait(SOON)
    if job.status == "failed":
        _explain(label, job)
    elif job.result is None:
        _watch(label, job, back)
    else:
        assert isinstance(job.result, answer)
        if job.note:
            st.caption(job.note)
        return job.result
    return None


def _watch(label: str, job: Job, back: Callable[[], None] | None) -> None:
    """Shows a job until it is finished, then draws the page again; so it does for what is found on the way."""
    partials = cache.engine().partials
    drawn = partials.get(job.request)

    @st.fragment(run_every=0.3)
    def watch() -> None:
        if job.finished or partials.get(job.request) is not drawn:
            st.rerun()
        st.progress(job.progress, label if job.total else f"{label}: {_waiting(job)}")

    row = st.container(horizontal=True, vertical_alignment="center")
    with row:
        watch()
    # Not in the fragment: what a callback there sets is overwritten by the browser's own state of the widgets.
    row.button("Cancel", key=f"cancel {label}", on_click=_cancel, args=(job, back))


def _waiting(job: Job) -> str:
    before = 0 if job.status == "running" else cache.engine().ahead_of(job)
    return f"waiting, {before} before it" if before else "waiting for the engine"


def _explain(label: str, job: Job) -> None:
    st.error(plain(f"{label}: {job.error}"))
    st.button("Try again", key=f"again {label}", on_click=cache.engine().cancel, args=(state.session_id(), job))


def _offer(label: str, request: Request) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    row.caption(f"{label}: cancelled.")
    row.button("Compute", key=f"compute {label}", on_click=state.set_cancelled, args=(request, False))


def _cancel(job: Job, back: Callable[[], None] | None) -> None:
    cache.engine().cancel(state.session_id(), job)
    if back is None:
        state.set_cancelled(job.request, True)
    else:
        back()
