"""Computing on other machines: `--engine ray://host:port`, the address at which `python -m app.serve` answers.

The engine stays what it is: queue, turns, cache. Only what one of its threads does with a request is done elsewhere: the
request is posted to Ray Serve, which hands it to a free replica, and the answer is a stream of messages (`wire`): how
far it is, some times a second, and the outcome last. A stream that ends before the outcome has lost its replica, and
the request is posted again. Nothing here needs Ray.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.records import Request
from app.services import wire
from app.services.computer import Check, Computer, Task
from app.services.jobs import Cancelled, Outcome
from app.services.logs import event
from app.services.reporting import Report

SCHEME, PORT = "ray", 8000
ENVIRONMENT = "DPI_ENGINE"

PAUSES = (0.0, 1.0, 3.0, 6.0)
"""Seconds before each attempt to have a request computed."""

CONNECTING = 3.0
"""Seconds that the other machine may take to accept a connection; meanwhile nothing can be cancelled."""

SILENCE = 30.0
"""Seconds without a message after which a replica counts as lost; it sends several a second."""

LOST = (OSError, EOFError, http.client.HTTPException)


class Cluster:
    """Replicas behind one address; thread-safe.

    Args:
        address: `ray://host:port`.

    Attributes:
        at_once: requests that are computed at the same time: as many as there may be replicas; 1 until the cluster has
            been asked.

    Raises:
        ValueError: the address has another form.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.host, self.port = _host_and_port(address)
        self.at_once = 1

    def devices(self) -> tuple[str, ...]:
        """The device of the replicas; waits until one of them answers, whatever answers in its place while it starts."""
        is_said = False
        while True:
            try:
                about = self._about()
                self.at_once, device = int(about["replicas"]), str(about["device"])
            except (*LOST, ValueError, LookupError, TypeError) as error:
                if not is_said:
                    event("cluster does not answer yet", error=type(error).__name__)
                is_said = True
                time.sleep(1)
            else:
                return (device,)

    def on(self, device: str) -> Computer:
        """The cluster: each replica computes on the device that it has."""
        return self

    def computes_apart(self, device: str) -> bool:
        """No: a request goes to whichever replica is free."""
        return False

    def forget(self, folder: Path | None = None) -> None:
        """The replicas keep their models."""

    def joined(self, first: Request, waiting: Sequence[Request]) -> list[Request]:
        """None: every replica has a request of its own."""
        return []

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Has each request computed by a replica; by another one where that one is lost."""
        for task in tasks:
            yield task, self._outcome(task)

    def _outcome(self, task: Task) -> Outcome:
        message = wire.pack(task.request)
        try:
            for pause in PAUSES:
                _sleep(pause, task.check)
                try:
                    return self._attempt(message, task.report, task.check)
                except LOST as error:
                    event("replica lost", kind=type(task.request).__name__, error=type(error).__name__)
        except Cancelled:
            return Outcome("cancelled")
        except ValueError as error:
            return Outcome("failed", error=str(error))
        return Outcome(
            "failed", error=f"the cluster at {self.address} has lost this computation; try again in a minute."
        )

    def _attempt(self, message: bytes, report: Report, check: Check) -> Outcome:
        with closing(self._connection()) as connection:
            connection.request("POST", "/", message)
            while not select.select([connection.sock], [], [], 0.1)[0]:  # no replica is free
                check()
            outcome = None
            for record in wire.frames(_opened(connection.getresponse())):
                if isinstance(record, Outcome):
                    outcome = record
                else:
                    report(record.done, record.total, record.partial)
        if outcome is None:
            raise EOFError("the answer ended before its outcome")
        return outcome

    def _about(self) -> dict[str, Any]:
        with closing(self._connection()) as connection:
            connection.request("GET", "/")
            return json.loads(_opened(connection.getresponse()).read())

    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=CONNECTING)
        connection.connect()
        connection.sock.settimeout(SILENCE)
        # Waiting for a free replica may take long: the kernel finds out whether the other machine is still there.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return connection


def chosen(arguments: Sequence[str] | None = None) -> Cluster | None:
    """The cluster that the command line or the environment names; None for this machine.

    Args:
        arguments: those of the script, `streamlit run app/main.py -- --engine ray://host:port`.

    Raises:
        ValueError: the address has another form.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--engine", default=os.environ.get(ENVIRONMENT, ""))
    known, _ = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    return Cluster(known.engine) if known.engine else None


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        if parts.scheme == SCHEME and parts.hostname and not (parts.path or parts.query):
            return parts.hostname, parts.port or PORT
    except ValueError:  # no number, or none of a port
        pass
    raise ValueError(f"the engine {address!r} is no address of a cluster; give {SCHEME}://HOST:{PORT}, or nothing.")


def _opened(response: http.client.HTTPResponse) -> http.client.HTTPResponse:
    if response.status == http.HTTPStatus.BAD_REQUEST:
        raise ValueError(response.read(1000).decode(errors="replace"))
    if response.status != http.HTTPStatus.OK:
        raise http.client.HTTPException(f"status {response.status}")
    return response


def _sleep(seconds: float, check: Check) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        time.sleep(min(left, 0.1))
