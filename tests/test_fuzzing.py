"""What a stranger hands over is taken, or refused in one sentence: thousands of cases, the same ones every time.

`python -m fuzzing` tries a hundred thousand, see CONTRIBUTING.md.
"""

import json
import random
import resource
import sys
import time
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
    "page": 8,
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


@pytest.mark.parametrize("value", [0, -1, 2**70])
def test_any_value_of_a_config_may_be_absurd(targets, value):
    """Chance finds few of the places where a number has bounds of its own."""
    from fuzzing import material

    target = targets["config"]
    tried = target.tried
    for number in range(len(material.RECIPES)):
        intact = material.full_recipe(number)
        for place in material.places(intact):
            target((number, json.dumps(material.with_edits(intact, [(place, value)])).encode()))
    assert target.tried - tried > 200


def test_at_least_two_thousand_cases_are_tried():
    assert sum(CASES.values()) * 0.9 >= 2000


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (lambda case: {}["absent"], "absent"),
        (lambda case: int("x" * 3), "does not say what to do"),
        (lambda case: _refuse("first line\nsecond: choose another."), "no sentence"),
        (lambda case: _work(1.1), "it took"),
        (lambda case: _grow(60), "has grown"),
    ],
)
def test_what_must_not_happen_is_found(targets, fails, says):
    from fuzzing import target

    planted = target.Target("planted", targets["link"].cases, fails, 1.0, megabytes=40)
    with pytest.MonkeyPatch.context() as patch, pytest.raises((AssertionError, KeyError), match=says):
        patch.setattr(target, "MOST_SECONDS", 1.0)
        planted({})


def _work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def _grow(megabytes):
    """Beyond what the process has held before."""
    held = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])
    b"x" * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held + megabytes * 2**20)


def _refuse(text):
    raise ValueError(text)


def test_a_fuzzer_that_follows_coverage_calls_the_same_targets(targets):
    from fuzzing.target import Target

    seen = []
    target = Target("seen", targets["address"].cases, seen.append, 1.0)
    rng = random.Random(0)
    for _ in range(50):
        target.fuzz_one_input(rng.randbytes(200))
    assert target.tried == len(seen) > 10 and len(set(seen)) > 5
