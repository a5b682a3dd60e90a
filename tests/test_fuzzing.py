"""What a stranger hands over is taken, or refused in one sentence: thousands of cases, the same ones every time.

`python -m fuzzing` tries a hundred thousand, see CONTRIBUTING.md.
"""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import jaxtyping
import pytest

ROOT = Path(__file__).parents[1]
CASES = {
    "config": 500,
    "weights": 450,
    "folder": 300,
    "state_dict": 300,
    "image": 600,
    "link": 250,
    "address": 100,
    "page": 16,
}


@pytest.fixture(scope="module")
def targets():
    """With the checks of signatures off, as users run it."""
    sys.path.insert(0, str(ROOT))
    jaxtyping.config.update("jaxtyping_disable", True)
    from fuzzing.targets import targets

    yield targets()
    jaxtyping.config.update("jaxtyping_disable", False)
    sys.path.remove(str(ROOT))


@pytest.mark.parametrize(("name", "cases"), CASES.items())
def test_every_case_is_taken_or_refused_in_one_sentence(targets, name, cases):
    target = targets[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow about damaged files; hypothesis finds what becomes of them
        target.run(cases)
    assert target.tried >= cases * 0.9, "there are fewer different cases"
    if name in ("config", "weights", "folder", "state_dict", "image"):
        assert 0.05 * target.tried < target.refused < target.tried, "both ways are taken"


def test_at_least_two_thousand_cases_are_tried():
    assert sum(CASES.values()) * 0.9 >= 2000


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (lambda case: {}["absent"], "absent"),
        (lambda case: int("x" * 3), "does not say what to do"),
        (lambda case: _refuse("first line\nsecond: choose another."), "no sentence"),
        (lambda case: sum(range(10**9)), "it took"),
        (lambda case: bytearray(80 * 2**20), "has grown"),
    ],
)
def test_what_must_not_happen_is_found(targets, fails, says):
    from fuzzing import target

    planted = target.Target("planted", targets["link"].cases, fails, 1.0, megabytes=40)
    with pytest.MonkeyPatch.context() as patch, pytest.raises((AssertionError, KeyError), match=says):
        patch.setattr(target, "MOST_SECONDS", 0.2)
        planted({})


def _refuse(text):
    raise ValueError(text)


def test_a_fuzzer_that_follows_coverage_runs_the_same_targets():
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this Python")
    command = [sys.executable, "-m", "fuzzing", "address", "--engine", "atheris", "--cases", "300"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "Done 300 runs" in run.stderr, run.stderr[-2000:]
