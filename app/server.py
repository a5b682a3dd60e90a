"""`streamlit run app/server.py`: the app for many users, with health and readiness beside it and logs for machines.

`/health` says that the process answers, `/ready` that visitors get answers, see `app.services.health`. The pages are those
of `main.py`; the engine starts before the first visitor comes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def _scripts_of_the_page() -> str:
    """The digests of the scripts that stand in Streamlit's own page: they may run, others that stand in it may not."""
    page = (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            # Streamlit loads the components' scripts as blobs, and a decoder in WebAssembly.
            f"script-src 'self' blob: 'wasm-unsafe-eval' {_scripts_of_the_page()}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "connect-src 'self' data: blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""With every answer: whatever a name or a card may hold, the browser runs no script of it and asks no other host."""


class SecurityHeaders:
    """Puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the app does."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


app = st.App(
    "main.py",
    routes=[Route("/health", health), Route("/ready", ready)],
    lifespan=lifespan,
    middleware=[Middleware(SecurityHeaders)],
)
