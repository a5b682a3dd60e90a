"""`streamlit run app/server.py`: the app for many users, with health and readiness beside it and logs for machines.

`/health` says that the process answers, `/ready` that visitors get answers, see `app.services.health`. The pages are those
of `main.py`; the engine starts before the first visitor comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.services import cache, logs
from app.services.health import readiness


async def health(_: Request) -> Response:
    """The process is alive."""
    return JSONResponse({"status": "ok"})


async def ready(_: Request) -> Response:
    """Whether visitors get answers, and what the engine holds."""
    body, status = await run_in_threadpool(lambda: readiness(cache.engine()))
    return JSONResponse(body, status_code=status)


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Starts the logs and the engine; lets the workers end before Python does."""
    logs.write_to_stderr()
    cache.engine().warm_up()
    yield
    cache.engine().close()


app = st.App("main.py", routes=[Route("/health", health), Route("/ready", ready)], lifespan=lifespan)
