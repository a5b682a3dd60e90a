"""The six lessons: data and pure functions from a stored model to text, questions, answers and figures."""

from __future__ import annotations

from app.lessons import curve, layers, one_set, sampling, score, seeing
from app.lessons.lesson import Lesson

LESSONS: tuple[Lesson, ...] = (
    seeing.LESSON,
    one_set.LESSON,
    curve.LESSON,
    score.LESSON,
    sampling.LESSON,
    layers.LESSON,
)
