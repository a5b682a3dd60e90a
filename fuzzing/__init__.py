"""Data that a stranger hands over, by the thousand: each is taken, or refused in one sentence that names the remedy.

`python -m fuzzing` runs long; `tests/test_fuzzing.py` runs the same targets for some seconds.
"""
