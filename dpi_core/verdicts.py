"""Verdicts in plain words, computed from the intervals of paired differences: RESULTS.md and the app say the same.

Nothing here needs torch. In every difference positive is in favour of the first method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

SATURATION_WARNING = 0.35
"""λ saturates where 90 % of its rise lies in a shorter interval of s; a straight line needs 0.9."""

DECAYED = 0.01
"""Share of the peak learning rate below which a run has come to its end."""

BETTER, WORSE, EVEN = "better", "worse", "no clear difference"

UNITS = {"psnr": ("PSNR", "dB", 2), "ssim": ("SSIM", "", 4), "mse": ("mean squared error", "", 5)}
"""Measure -> its name, its unit, and the decimals that mean something."""


def verdict(low: float, high: float) -> str:
    """What an interval of differences says: `BETTER` or `WORSE` where it leaves out zero, else `EVEN`."""
    return BETTER if low > 0 else WORSE if high < 0 else EVEN


@dataclass(frozen=True)
class Stretch:
    """Neighbouring levels with one verdict: from which s to which, and how many."""

    verdict: str
    first: float
    last: float
    levels: int

    def __str__(self) -> str:
        return f"{self.first:.2f}" + (f" to {self.last:.2f}" if self.levels > 1 else "")


def stretches(s: Sequence[float], verdicts: Sequence[str]) -> list[Stretch]:
    """The levels in order, neighbours with one verdict together."""
    groups = groupby(zip(s, verdicts, strict=True), lambda pair: pair[1])
    found = [(word, [level for level, _ in group]) for word, group in groups]
    return [Stretch(word, levels[0], levels[-1], len(levels)) for word, levels in found]


def where_in_words(first: str, other: str, s: Sequence[float], verdicts: Sequence[str]) -> str:
    """Where one method beats another, e.g. "dpi is better than none at s = 0.44 to 0.95 (10 of 17 levels), …".

    Args:
        first: the method whose differences are meant.
        other: what it is held against.
        s: the levels, rising.
        verdicts: at each level.
    """
    found = stretches(s, verdicts)
    if len(found) == 1:
        return {
            EVEN: f"no clear difference between {first} and {other} at any of {len(s)} levels",
            BETTER: f"{first} is better than {other} at all {len(s)} levels",
            WORSE: f"{first} is worse than {other} at all {len(s)} levels",
        }[found[0].verdict]
    parts: list[str] = []
    for word in (BETTER, WORSE, EVEN):
        own = [stretch for stretch in found if stretch.verdict == word]
        if own:
            count = sum(stretch.levels for stretch in own)
            of = f" of {len(s)} levels" if not parts else ""
            what = word if word == EVEN else f"{word} than {other}" if not parts else word
            parts.append(f"{what} at s = {_listed([str(stretch) for stretch in own])} ({count}{of})")
    opening = "" if parts[0].startswith(EVEN) else f"{first} is "
    return opening + ", ".join(parts)


def comparison_in_words(
    first: str,
    other: str,
    measure: str,
    s: Sequence[float],
    comparison: Mapping[str, Any],
    samples: str,
    seeds: Sequence[float] = (),
) -> str:
    """The whole verdict of one method against another by one measure, in two sentences.

    Args:
        first: the method whose differences are given.
        other: what it is held against.
        measure: a key of `UNITS`.
        s: the levels.
        comparison: "difference", an interval for each level, and "average", one over all; intervals have "mean", "low", "high".
        samples: what the intervals are over, e.g. "360 held-out samples".
        seeds: the average difference of each trained seed; none where it is not known.
    """
    name, unit, digits = UNITS[measure]
    verdicts = [verdict(each["low"], each["high"]) for each in comparison["difference"]]
    where = where_in_words(first, other, s, verdicts)
    average = comparison["average"]
    gained = f"On average over the levels {_with_interval(average, unit, digits)}"
    return f"{name}: {where}. {gained}, from {samples}{_seeds(seeds, unit, digits)}."


def _with_interval(interval: Mapping[str, float], unit: str, digits: int) -> str:
    mean, low, high = (signed(interval[key], digits) for key in ("mean", "low", "high"))
    return f"{mean}{f' {unit}' * bool(unit)} ({low} to {high})"


def _seeds(seeds: Sequence[float], unit: str, digits: int) -> str:
    if not seeds:
        return ""
    if len(seeds) == 1:
        return " and one seed of training, so what another seed changes is not known"
    low, high = (signed(edge(seeds), digits) for edge in (min, max))
    return f" and {len(seeds)} seeds of training (each alone: {low} to {high}{f' {unit}' * bool(unit)})"


def judge_in_words(sweep: Mapping[str, Any]) -> str:
    """In whose features the samples of a sweep are compared, one sentence; empty where they are compared themselves."""
    judge = sweep.get("judge")
    if judge is None:
        return ""
    return (
        "Fréchet distance, precision and recall are those of the last features of a classifier that names"
        f" {100 * judge['accuracy']:.1f} % of {judge['held_out']:,} held-out images of {judge['data']} rightly."
    )


def origins(method: str, sweep: Mapping[str, Any]) -> list[str]:
    """The methods of a sweep whose trained networks one started from, the nearest first."""
    start = sweep["config"]["methods"][method].get("start")
    return [] if start is None else [start, *origins(start, sweep)]


def total_steps(sweep: Mapping[str, Any]) -> dict[str, int]:
    """The steps of each method, with those of the network that it started from."""
    own = {name: method["training"][0]["steps"] for name, method in sweep["methods"].items()}
    return {name: sum(own[each] for each in (name, *origins(name, sweep))) for name in own}


def steps_in_words(sweep: Mapping[str, Any]) -> str:
    """That the methods of a sweep took equally many steps, or how many each took with those it started from."""
    steps = total_steps(sweep)
    if len(set(steps.values())) == 1:
        return "at equal steps"
    counts = sorted(set(steps.values()), reverse=True)
    groups = [f"{_listed([name for name in steps if steps[name] == count])} {count:,}" for count in counts]
    return f"at unequal steps: {'; '.join(groups)}"


def stopped_in_words(sweep: Mapping[str, Any]) -> list[str]:
    """One sentence for each method whose training was stopped before its end."""
    return [
        f"{name} was stopped at step {run['step']:,} of {run['planned']:,}, where its learning rate stood at"
        f" {100 * run['rate']:.0f} % of its peak, which counts against it."
        for name, run in sweep.get("stopped", {}).items()
    ]


def equal_steps_in_words(first: str, other: str, sweep: Mapping[str, Any]) -> str:
    """How two methods compare after equally many steps, where one was stopped; empty where that is all there is anyway."""
    found = sweep.get("equal_steps", {}).get(other)
    if found is None:
        return ""
    return f"{_read_early(first, other, found)}; both are read at step {found['steps'][0]:,}"


def timed_elsewhere_in_words(sweep: Mapping[str, Any]) -> str:
    """Whose time "equal time" is, where networks were trained on another device than steps were timed on; else empty."""
    timed = _device(sweep["hardware"])
    trained = {_device(run["hardware"]) for method in sweep["methods"].values() for run in method["training"]}
    others = sorted(trained - {timed})
    if not others:
        return ""
    return (
        f"Equal time here is that of training on {timed}, on which steps were timed. These runs were trained on"
        f" {' and '.join(others)}, where a step of one method against one of another may cost more or less."
    )


def _device(hardware: str) -> str:
    """Of the words "device, threads, version of torch"."""
    return hardware.split(",")[0]


def equal_time_in_words(first: str, other: str, sweep: Mapping[str, Any]) -> str:
    """How two methods of a sweep compare when both have trained for the same time, or why that is not known."""
    ms = [sweep["methods"][name]["cost"]["step_ms"] for name in (first, other)]
    longer = f"a step of {first} takes {ms[0] / ms[1]:.2f} times as long as one of {other}"
    found = sweep.get("equal_time", {}).get(other)
    if found is None:
        return f"not measured against {other}: {longer}, and these runs kept no held-out scores around those steps"
    steps = f"{first} is read at step {found['steps'][0]:,} and {other} at step {found['steps'][1]:,}"
    still = [
        f" The learning rate of {name} still stood at {100 * rate:.0f} % of its peak there, which counts against it"
        for name, rate in zip((first, other), found["rates"], strict=True)
        if rate >= DECAYED
    ]
    return ".".join([f"{_read_early(first, other, found)}; {longer}, so {steps}", *still])


def _read_early(first: str, other: str, found: Mapping[str, Any]) -> str:
    name, unit, digits = UNITS[found["measure"]]
    word = verdict(found["difference"]["low"], found["difference"]["high"])
    opening = word if word == EVEN else f"{first} is {word}"
    gained = _with_interval(found["difference"], unit, digits)
    return f"{opening} against {other}: {gained} in {name}, on {found['samples']} samples at {found['levels']} levels"


def goal_in_words(first: str, measure: str, against: Mapping[str, Mapping[str, Any]]) -> str:
    """Against which methods the first one is worse at no level and better on average, and against which it is not.

    Args:
        first: the method whose differences are given.
        measure: a key of `UNITS`.
        against: other method -> its comparison, as in `comparison_in_words`; at least one.
    """
    reached: list[str] = []
    missed: list[str] = []
    for other, comparison in against.items():
        words = [verdict(each["low"], each["high"]) for each in comparison["difference"]]
        average = comparison["average"]
        is_reached = WORSE not in words and verdict(average["low"], average["high"]) == BETTER
        (reached if is_reached else missed).append(other)
    name = UNITS[measure][0]
    if not reached:
        return f"By {name}, {first} is worse at some level, or not better on average, against {_listed(missed)}."
    rest = f"; not so against {_listed(missed)}" if missed else ""
    return f"By {name}, {first} is worse at no level and better on average against {_listed(reached)}{rest}."


def main_measure(sweep: Mapping[str, Any]) -> str:
    """Images are compared by PSNR, points by the mean squared error."""
    measures = next(iter(sweep["methods"].values()))["scores"]
    return "psnr" if "psnr" in measures else "mse"


def paired_seeds(first: Mapping[str, Any], other: Mapping[str, Any], measure: str) -> list[float]:
    """The average difference of each seed that both methods were trained with.

    Args:
        first: a method of a sweep's `metrics.json`.
        other: the one it is held against.
        measure: a key of `UNITS`.
    """
    sign = -1 if measure == "mse" else 1
    ours, theirs = (method["scores"][measure]["seeds"] for method in (first, other))
    return [sign * (a - b) for a, b in zip(ours, theirs, strict=False)]


def signed(value: float, digits: int) -> str:
    """A number with its sign, a true minus; what rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
