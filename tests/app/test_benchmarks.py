"""The benchmarks measure what they say: ratios, ten sessions for some seconds (five minutes on the command line), the report."""

import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from app.services.inference import Engine

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr("benchmarks.load.REST_SECONDS", 0.1)


@pytest.mark.usefixtures("unchecked")
def test_ten_sessions_get_right_answers_and_no_errors():
    from benchmarks import load

    seen, references = load.Seen(), load.reference_answers()
    with closing(Engine(cache_bytes=2**20)) as engine:
        load.run(engine, references, seen, sessions=10, seconds=6)
        assert engine.cache.held <= engine.cache.limit
    assert (seen.wrong, seen.errors) == ([], [])
    assert len(seen.computed_ms) >= 10, "every session got an answer, however busy the machine"


def test_the_load_test_finds_a_wrong_answer():
    from benchmarks import load

    seen, references = load.Seen(), load.reference_answers()
    request = next(load.questions(references, 0))
    with closing(Engine()) as engine:
        job = engine.submit("me", request)
        assert job.wait(60)
    load.compare(job.result, request, references, seen)
    assert seen.wrong == []
    references[request.model, request.inputs.seed, request.s_grid[1]] += 1e-3
    load.compare(job.result, request, references, seen)
    assert len(seen.wrong) == 1 and f"{request.s_grid[1]:.3f}" in seen.wrong[0]


def test_memory_is_read_while_no_session_is_at_work_and_none_waits_for_one_that_has_ended(monkeypatch):
    from benchmarks import load

    held, lock = [0, 0], threading.Lock()  # by sessions at work, and by answers that are kept

    def work(number, shift):
        if number == 2:
            return  # as after an error
        while shift.goes_on():
            with lock:
                held[0] += 1000
            time.sleep(0.02)
            with lock:
                held[0] -= 1000
                held[1] += 1

    monkeypatch.setattr(load, "resident", lambda pid: sum(held))
    memory = load.together(work, sessions=3, seconds=1.5)
    settled, *later = memory.at_rest
    assert len(later) == load.PARTS and 0 < settled < later[0]
    assert later == sorted(later) and later[-1] < 1000 <= memory.peak
    row = load.growth_of(memory, 5)
    assert row.median == pytest.approx(100 * (later[load.PARTS // 2] / settled - 1))


def test_every_part_of_a_run_has_a_percentile():
    from benchmarks import load

    assert load.percentiles([*[1.0] * 40, *[9.0] * 10]) == [1.0, 1.0, 1.0, 1.0, 9.0]
    assert load.percentiles([2.0, 3.0]) == [2.0, 3.0] and load.percentiles([]) == [0.0]


@pytest.mark.usefixtures("unchecked")
def test_visitors_of_the_app_get_right_pictures_and_a_wrong_one_is_found():
    from benchmarks import visitors
    from benchmarks.start_up import serving

    seen = visitors.Seen()
    with serving("app/main.py") as server:
        visitors.run(server.url, server.pid, seen, sessions=3, seconds=8, before=3)
    assert seen.errors == [] and list(visitors.wrong_answers(seen.answers)) == []
    assert sum(map(len, seen.milliseconds.values())) >= 3, "every session got an answer, however busy the machine"
    question, answers = next(iter(seen.answers.items()))
    answers[0][2] += 0.05
    (sentence,) = visitors.wrong_answers({question: answers})
    assert "off by 0.05" in sentence


def test_rows_that_miss_come_first_with_their_reason():
    from benchmarks.measure import Row
    from benchmarks.report import Table, report

    rows = [Row("kept", [1.0, 1.2, 0.9], bound=1.1), Row("missed", [3.0, 1.0, 2.5], bound=2.0, reason="too many")]
    text = report([Table("T", "python -m t", {"device": "a processor"}, rows)], "the notes")
    first, second = text.split("## T")
    assert (
        "1 of 2 rows" in first
        and "| missed | ≤ 2 | **2.5 ×** | 1 to 3 | 3 |" in first
        and "- missed: too many" in first
    )
    assert "| kept |" not in first and "| kept | ≤ 1.1 | 1 × |" in second and "a processor" in second


def test_the_report_is_what_the_results_give():
    command = [sys.executable, "-m", "benchmarks.report", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_ratio_is_taken_from_neighbours_so_that_a_slower_machine_does_not_change_it():
    from benchmarks.measure import by_turns

    now, pace = [0.0], [1.0]

    def work(seconds):
        now[0] += seconds * pace[0]
        pace[0] *= 1.0001  # the machine slows down all the time

    found = by_turns(lambda: work(0.03), lambda: work(0.01), 7, lambda: now[0])
    ratios = [a / b for a, b in zip(*found, strict=True)]
    assert len(ratios) == 7 and max(abs(ratio / 3 - 1) for ratio in ratios) < 1e-3
    assert found[0][-1] > 1.001 * found[0][0]


def test_the_other_ways_compute_the_same():
    from benchmarks import networks

    net = networks.dpi(networks.MLP_NAME)
    x, s = networks.inputs(networks.MLP_NAME, 5), torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    for build in networks.PEERS.values():
        torch.testing.assert_close(build(net)(x, 0.37), net(x, 0.37), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(networks.Vmap(net)(x, s), net(x, s), rtol=1e-4, atol=1e-5)


def test_without_a_gpu_its_benchmark_says_so(monkeypatch, capsys):
    from benchmarks import gpu

    monkeypatch.setattr(gpu, "accelerator", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    gpu.main()
    assert "no GPU" in capsys.readouterr().out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU on this machine")
def test_on_a_gpu_the_answers_are_those_of_the_cpu():
    from benchmarks import networks

    x, s = networks.inputs(networks.SMALL, 4), torch.tensor([0.0, 0.3, 0.3, 1.0])
    expected = networks.dpi(networks.SMALL)(x, s)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found = networks.dpi(networks.SMALL, "cuda")(x.cuda(), s)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
