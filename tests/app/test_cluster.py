"""Computing elsewhere: the same answers, progress, cancel, and nothing wrong or lost when a replica dies.

Without Ray the replica's own code answers from a plain HTTP server; with Ray, `python -m app.serve` starts two.
"""

import importlib.util
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import fields, is_dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from starlette.requests import Request as HttpRequest

from app.records import (
    ComparisonRequest,
    CurvesRequest,
    Inputs,
    LayerDetailRequest,
    PadRequest,
    PlaneRequest,
    SweepRequest,
    TrajectoryRequest,
    Upload,
    ViewsRequest,
)
from app.services import cluster, stored, wire
from app.services.cluster import Cluster
from app.services.inference import Engine
from app.services.jobs import Outcome
from app.services.replica import Replica
from app.services.wire import Progress

ROOT = Path(__file__).parents[2]
PATIENCE = 120
DIGITS, BLIND, MIXTURE = (
    stored.read_model(name).key for name in ("digits-vp-dpi", "digits-vp-none", "mixture2d-flow-dpi")
)
HELD_OUT = Inputs("held-out", 2, 0)
UPLOAD = Inputs("upload", 1, 0, Upload.from_array(np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8)))

REQUESTS = {
    "sweep": SweepRequest(DIGITS, HELD_OUT, (0.0, 0.3, 1.0), "cpu"),
    "sweep of a second model": SweepRequest(BLIND, Inputs("samples", 2, 1, of=DIGITS), (0.3,), "cpu"),
    "sweep of an upload": SweepRequest(DIGITS, UPLOAD, (0.5,), "cpu"),
    "pad": PadRequest(DIGITS, HELD_OUT, 1, (0.2, 0.8), (0.0, 0.5, 1.0), "cpu"),
    "curves": CurvesRequest(DIGITS, HELD_OUT, ((0.0, 0.2, 1.0),), "cpu"),
    "trajectory": TrajectoryRequest(MIXTURE, Inputs("samples", 4, 0), "heun", 6, "uniform", "learned", 0.5, "cpu"),
    "plane": PlaneRequest(DIGITS, Inputs("samples", 4, 0), "ddim", 4, "cpu"),
    "layer": LayerDetailRequest(DIGITS, HELD_OUT, "head", "cpu"),
    "views": ViewsRequest(MIXTURE, HELD_OUT, (0.3, 0.6), "cpu"),
    "comparison": ComparisonRequest(DIGITS, (BLIND,), Inputs("held-out", 8, 0), 2, (0.3, 0.6), "cpu"),
}
TIMES = {"ms"}
"""Fields that hold what was measured and not what was computed."""


def long_request(levels=20_000):
    """A minute's work in short steps."""
    return SweepRequest(DIGITS, HELD_OUT, tuple(np.linspace(0, 1, levels).tolist()), "cpu")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def plain_server():
    """A replica behind an HTTP server of this process."""
    replica, port = Replica(replicas=2), free_port()

    async def application(scope, receive, send):
        await (await replica(HttpRequest(scope, receive)))(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(application, port=port, ws="none", lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        thread.join()
        replica.thread.shutdown()


@contextmanager
def ray_server(*options):
    """`python -m app.serve`, by default with two replicas; none of its processes is left afterwards."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip('Ray is not installed: pip install -e ".[cluster]"')
    port = free_port()
    command = [sys.executable, "-m", "app.serve", *(options or ("--replicas", "2")), "--port", str(port)]
    log = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        if not any(f"ray://127.0.0.1:{port}" in line for line in process.stdout):
            log.seek(0)
            pytest.fail(log.read())
        yield port
    finally:
        started = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
        log.close()
        deadline = time.monotonic() + 30
        while left := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


@pytest.fixture(scope="module", params=[plain_server, ray_server], ids=["plain", "ray"])
def server(request):
    with request.param() as port:
        yield port


needs_ray = pytest.mark.parametrize("server", [ray_server], ids=["ray"], indirect=True)


@pytest.fixture
def engine(server):
    with closing(Engine(computers=Cluster(f"ray://127.0.0.1:{server}"))) as engine:
        yield engine


def started(engine, request, session="me"):
    """A job that is being computed."""
    engine.best_device()
    job, deadline = engine.submit(session, request), time.monotonic() + PATIENCE
    while job.done < 1:
        assert time.monotonic() < deadline, job
        time.sleep(0.005)
    return job


def assert_same(found, expected, where="result"):
    """Equal to 1e-6, field by field."""
    assert type(found) is type(expected), where
    if is_dataclass(expected):
        for item in fields(expected):
            if item.name not in TIMES:
                assert_same(getattr(found, item.name), getattr(expected, item.name), f"{where}.{item.name}")
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, where
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=where)
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected), where
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6), where
    else:
        assert found == expected, where


# The same answers ------------------------------------------------------------------------------------------------


def test_a_cluster_answers_as_this_machine_does(engine):
    with closing(Engine()) as local:
        jobs = {kind: engine.submit(kind, request) for kind, request in REQUESTS.items()}
        for kind, request in REQUESTS.items():
            expected = local.submit(kind, request)
            assert expected.wait(PATIENCE) and jobs[kind].wait(PATIENCE)
            assert (jobs[kind].status, jobs[kind].error) == ("done", "") == (expected.status, expected.error), kind
            assert_same(jobs[kind].result, expected.result, kind)


def test_what_a_run_has_found_so_far_arrives_and_stays_after_cancel(engine):
    request = TrajectoryRequest(DIGITS, Inputs("samples", 8, 0), "heun", 1000, "uniform", "learned", 0.5, "cpu")
    job = started(engine, request)
    while (partial := engine.partials.get(request)) is None:
        assert not job.finished, job
    engine.cancel("me", job)
    assert job.wait(PATIENCE) and job.status == "cancelled"
    assert not partial.ended and 1 <= len(partial.s) < 1000


def test_what_is_wrong_with_a_request_is_the_same_sentence(engine):
    request = PadRequest(BLIND, HELD_OUT, 1, (0.5,), (0.0, 1.0), "cpu")
    with closing(Engine()) as local:
        jobs = [each.submit("me", request) for each in (engine, local)]
        assert all(job.wait(PATIENCE) for job in jobs)
    assert jobs[0].status == "failed" and jobs[0].error == jobs[1].error != ""


# Cancel, and replicas that die -----------------------------------------------------------------------------------


def test_cancel_stops_the_computation_and_frees_the_replica(engine):
    job = started(engine, long_request())
    engine.cancel("me", job)
    assert job.wait(0.5) and job.status == "cancelled"
    next_one = engine.submit("me", REQUESTS["sweep"])
    assert next_one.wait(10) and next_one.status == "done"


def test_a_lost_connection_is_survived(server, engine):
    """The first connection is cut in the middle of the answer; the request is computed anew."""
    with cutting(server, after=20_000) as port, closing(Engine(computers=Cluster(f"ray://127.0.0.1:{port}"))) as cut:
        jobs = [each.submit("me", long_request(100)) for each in (cut, engine)]
        assert all(job.wait(PATIENCE) and job.status == "done" for job in jobs), jobs
    assert_same(jobs[0].result, jobs[1].result)


@needs_ray
def test_a_replica_that_is_killed_loses_no_answer(engine):
    request = long_request(600)
    job = started(engine, request)
    os.kill(busiest(replicas()), signal.SIGKILL)
    assert job.wait(PATIENCE) and job.status == "done", job.error
    assert (job.done, job.total) == (600, 600)
    with closing(Engine()) as local:
        expected = local.submit("me", request)
        assert expected.wait(PATIENCE)
    assert_same(job.result, expected.result)


@needs_ray
def test_two_replicas_compute_at_once(engine):
    jobs = [started(engine, long_request(19_000 + number), f"session {number}") for number in range(2)]
    assert [job.status for job in jobs] == ["running"] * 2
    for number, job in enumerate(jobs):
        engine.cancel(f"session {number}", job)


def test_requests_that_wait_make_the_cluster_grow():
    others = len(replicas())
    with (
        ray_server("--replicas", "1", "--max-replicas", "2") as port,
        closing(Engine(computers=Cluster(f"ray://127.0.0.1:{port}"))) as engine,
    ):
        assert len(replicas()) == others + 1
        jobs = [started(engine, long_request(19_000 + number), f"session {number}") for number in range(2)]
        assert [job.status for job in jobs] == ["running"] * 2
        assert len(replicas()) == others + 2
        for number, job in enumerate(jobs):
            engine.cancel(f"session {number}", job)


@contextmanager
def cutting(port, after):
    """A port that leads to another one, and hangs up once `after` bytes have come back; later connections stay."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def forward(source, target, limit=None):
            passed = 0
            with closing(source), closing(target), suppress(OSError):  # the other direction may have hung up already
                while (limit is None or passed < limit) and (data := source.recv(4096)):
                    passed += len(data)
                    target.sendall(data)
                if limit is not None and passed >= limit:
                    for end in (target, source):
                        end.shutdown(socket.SHUT_RDWR)

        def accept():
            for limit in (after, None):
                inside, outside = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=forward, args=(outside, inside, limit), daemon=True).start()
                threading.Thread(target=forward, args=(inside, outside), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def descendants(pid):
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
    ]
    return [*children, *(each for child in children for each in descendants(child))]


def replicas():
    """The replicas that this test has started."""
    return [pid for pid in descendants(os.getpid()) if "ServeReplica" in Path(f"/proc/{pid}/cmdline").read_text()]


def busiest(processes):
    """The process that uses the processor most."""

    def ticks(pid):
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    before = {pid: ticks(pid) for pid in processes}
    time.sleep(0.5)
    return max(processes, key=lambda pid: ticks(pid) - before[pid])


# Addresses and messages ------------------------------------------------------------------------------------------


def test_a_cluster_that_is_not_there_gives_a_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "PAUSES", (0.0, 0.1))
    with closing(Engine(computers=Cluster(f"ray://127.0.0.1:{free_port()}"))) as engine:
        job = engine.submit("me", REQUESTS["sweep"])
        assert job.wait(PATIENCE) and job.status == "failed"
    assert job.error.startswith("the cluster at ray://127.0.0.1:") and job.error.endswith(".")


@pytest.mark.parametrize("early", [b"<html>starting</html>", b'{"status": "starting"}', b"[]"])
def test_what_answers_while_a_cluster_starts_is_waited_out(early):
    answers = [early, b'{"device": "cuda:0", "replicas": 2}']

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = Cluster(f"ray://127.0.0.1:{server.server_port}")
        assert (address.devices(), address.at_once) == (("cuda:0",), 2)
        server.shutdown()


@pytest.mark.parametrize(
    "address", ["localhost:8000", "http://host:8000", "ray://", "ray://host:port", "ray://host:8000/x"]
)
def test_another_address_is_refused(address):
    with pytest.raises(ValueError, match="give ray://HOST:8000"):
        cluster.chosen(["--engine", address])


def test_the_command_line_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv(cluster.ENVIRONMENT, "ray://there:1")
    assert cluster.chosen(["--unknown"]).port == 1
    assert (cluster.chosen(["--engine", "ray://here"]).host, cluster.chosen(["--engine", "ray://here"]).port) == (
        "here",
        8000,
    )
    monkeypatch.delenv(cluster.ENVIRONMENT)
    assert cluster.chosen([]) is None


def test_without_ray_the_command_says_what_to_install():
    program = "import runpy, sys; sys.modules['ray'] = None; runpy.run_module('app.serve', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr == 'Ray Serve is not installed: pip install -e ".[cluster]".\n'


def test_messages_keep_every_value():
    values = Progress(1, 2, np.array([np.nan, -0.0, np.inf])), Outcome("done", None, "näher", "")
    stream = io.BytesIO(b"".join(map(wire.frame, values)))
    progress, outcome = wire.frames(stream)
    np.testing.assert_array_equal(progress.partial, values[0].partial)
    assert np.signbit(progress.partial[1]) and (outcome.status, outcome.note) == ("done", "näher")
    for request in REQUESTS.values():
        assert wire.unpack(wire.pack(request)) == request


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a message was unpickled",))


def foreign_messages():
    pickled = io.BytesIO()
    np.save(pickled, np.array([Trap()], dtype=object), allow_pickle=True)
    inside = io.BytesIO()
    np.savez(inside, text=np.array([Trap()], dtype=object))
    unknown = wire.pack(REQUESTS["sweep"]).replace(b"SweepRequest", b"WeepRequests")
    return {
        "pickle": pickle.dumps(Trap()),
        "npy": pickled.getvalue(),
        "npz": inside.getvalue(),
        "kind": unknown,
        "": b"",
    }


@pytest.mark.parametrize("kind", foreign_messages())
def test_foreign_bytes_are_refused_and_run_no_code(kind):
    with pytest.raises(ValueError, match="no message of DPI Explorer"):
        wire.unpack(foreign_messages()[kind])


def test_a_stream_that_ends_within_a_message_is_an_error():
    whole = wire.frame(Outcome("done"))
    for length in (3, 8, len(whole) - 1):
        with pytest.raises(EOFError):
            list(wire.frames(io.BytesIO(whole[:length])))
