"""What a forward through DPI costs, as ratios to the backbone's own, to a copy of its parameters, and to other ways.

`python -m benchmarks.forward [--device cuda]` prints the rows and writes benchmarks/results/forward.json. Every forward
has an s not seen before, so that θ(s) is made anew, unless the row says that it is reused.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.measure import CLOCKS, Bench, bench, options, timed
from benchmarks.networks import LARGE, LINEAR_NAME, MIDDLE, MLP_NAME, PEERS, SMALL, UNETS, Vmap, dpi, inputs
from dpi_core import DPI

EQUAL = 1.02
"""Two ways whose times differ by less are called equal."""

BATCH = 16

CALLS = "at this size the time is that of calls and not of arithmetic, and DPI looks up its curve and its memory first."
TWICE = "low resolutions multiply at θ0 and at θ1, high ones once with a weight for each scalar, which has to be made."
VMAP = (
    "vmap makes θ(s) for every sample and one convolution with a group for each of them, as we do at high resolutions; which"
    " is faster at low ones depends on the processor."
)


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    measured = bench("Forward", chosen)
    name = "forward" if chosen.device == "cpu" else f"forward_{chosen.device.split(':')[0]}"
    with torch.no_grad():
        measure(measured)
    measured.write(name)


def measure(measured: Bench) -> None:
    """All rows."""
    copy_seconds = materialising(measured)
    for name in UNETS:
        fresh(measured, name, BATCH, bound=1.05)
        reused(measured, name, BATCH)
    for name, batch in ((SMALL, 1), (LARGE, 1), (MLP_NAME, 1), (MLP_NAME, 2048), (LINEAR_NAME, 1), (LINEAR_NAME, 256)):
        fresh(measured, name, batch, copy_seconds=copy_seconds)
    for name, batch in ((SMALL, 16), (MIDDLE, 16), (SMALL, 64), (MLP_NAME, 256)):
        several(measured, name, batch)
    for name, batch in ((SMALL, BATCH), (MLP_NAME, 256)):
        peers(measured, name, batch)


def materialising(measured: Bench) -> float:
    """θ(s) beside a copy of one set; returns the seconds that one number's copy takes."""
    net = dpi(LARGE, measured.device)
    flat, scalars = net.flat0.detach(), fresh_scalars()
    measured.compare(
        "θ(s) made / one parameter set cloned, UNet 30 M",
        lambda: net.effective_parameters(next(scalars)),
        lambda: flat.clone(),
        bound=2.0,
        beside="limit 1.5: two sets read and one written, against one and one",
    )
    room, end = torch.empty_like(flat), net.flat1.detach()
    copied = measured.compare(
        "the same into memory that is there already",
        lambda: torch.lerp(flat, end, next(scalars), out=room),
        lambda: room.copy_(flat),
        bound=2.0,
        beside="limit 1.5",
    )
    return min(copied) / flat.numel()


def fresh(measured: Bench, name: str, batch: int, bound: float | None = None, copy_seconds: float = 0.0) -> None:
    net, plain, x = sides(name, batch, measured.device)
    scalars, beside = fresh_scalars(), ""
    if copy_seconds:
        own = timed(lambda: plain(x), 5, CLOCKS[measured.clock], measured.device)
        beside = f"bandwidth limit {1 + 1.5 * copy_seconds * net.flat0.numel() / own:.2f}"
    measured.compare(
        f"forward / backbone's, θ(s) fresh, {name}, batch {batch}",
        lambda: net(x, next(scalars)),
        lambda: plain(x),
        bound=bound,
        beside=beside,
        reason=CALLS,
    )


def reused(measured: Bench, name: str, batch: int) -> None:
    net, plain, x = sides(name, batch, measured.device)
    measured.compare(
        f"forward / backbone's, θ(s) reused, {name}, batch {batch}",
        lambda: net(x, 0.3),
        lambda: plain(x),
        bound=1.02,
        reason=CALLS,
    )


def several(measured: Bench, name: str, batch: int) -> None:
    """One scalar for each sample beside one for all; and beside vmap, where that is measured in seconds and not minutes."""
    net, _, x = sides(name, batch, measured.device)
    vmap, each = Vmap(net).to(measured.device), fresh_batches(batch)
    scalars = fresh_scalars()
    measured.compare(
        f"{batch} scalars / one scalar, {name}, batch {batch}",
        lambda: net(x, next(each)),
        lambda: net(x, next(scalars)),
        bound=2.0,
        reason=TWICE,
    )
    if batch <= 256 and name != MIDDLE:
        measured.compare(
            f"{batch} scalars: DPI / vmap, {name}",
            lambda: net(x, next(each)),
            lambda: vmap(x, next(each)),
            bound=EQUAL,
            reason=VMAP,
        )


def peers(measured: Bench, name: str, batch: int) -> None:
    """DPI beside the other ways to compute the same; that they do compute the same is checked first."""
    net, _, x = sides(name, batch, measured.device)
    scalars = fresh_scalars()
    for what, build in PEERS.items():
        peer = build(net).to(measured.device)
        torch.testing.assert_close(peer(x, 0.37), net(x, 0.37), rtol=1e-4, atol=1e-5)
        measured.compare(
            f"DPI / {what}, {name}, batch {batch}",
            lambda: net(x, next(scalars)),
            lambda peer=peer: peer(x, next(scalars)),
            bound=EQUAL,
            reason=CALLS,
        )


def sides(name: str, batch: int, device: str) -> tuple[DPI, nn.Module, Tensor]:
    """DPI, its backbone as a plain module, and a batch for both."""
    net = dpi(name, device).eval()
    return net, net.materialize(0.5), inputs(name, batch, device)


def fresh_scalars() -> Iterator[float]:
    """Values of s of which none returns soon."""
    return (0.05 + 0.9 * ((0.618034 * index) % 1) for index in itertools.count())


def fresh_batches(batch: int) -> Iterator[Tensor]:
    """Different values for every sample, and for every call."""
    draws = fresh_scalars()
    while True:
        yield torch.tensor(list(itertools.islice(draws, batch)), dtype=torch.float64)


if __name__ == "__main__":
    main()
