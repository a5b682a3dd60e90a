"""Independent random streams, each named by a seed and a purpose or an index."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_HELD_OUT = 0x48454C44


def seeded_generator(seed: int, *index: int) -> torch.Generator:
    """Returns a CPU generator whose stream is independent of that of every other (seed, *index).

    The numbers are hashed first, because the CPU generator looks at 32 bits of a seed only: 1 and 2**32 + 1 would
    give the same stream.

    Args:
        seed: at least 0.
        *index: at least 0 each: a step, a sample, a purpose.
    """
    state = int(np.random.SeedSequence(seed, spawn_key=index).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


@contextmanager
def global_seed(seed: int, *index: int) -> Iterator[None]:
    """Has torch's own generator on the CPU draw as `seeded_generator` would; afterwards it is what it was."""
    before = torch.get_rng_state()
    torch.set_rng_state(seeded_generator(seed, *index).get_state())
    try:
        yield
    finally:
        torch.set_rng_state(before)


def held_out_generator(seed: int) -> torch.Generator:
    """Returns a generator for held-out draws, which training with the same seed does not repeat."""
    return seeded_generator(seed, _HELD_OUT)
