"""bfloat16 where the hardware computes it: a CPU without such instructions emulates them, ten times slower than float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
"""What a network multiplies in: "float32" is its own dtype, "bfloat16" that where the device computes it itself."""


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(present for name, present in torch.cpu.get_capabilities().items() if "bf16" in name)
    return True


def bfloat16_where_native(device: torch.device) -> AbstractContextManager[object]:
    """Autocasts to bfloat16 on a device that computes it, and changes nothing on another."""
    return torch.autocast(device.type, torch.bfloat16) if computes_bfloat16(device) else nullcontext()


def multiplying_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A block in which networks on the device multiply in a precision; leave it before a generator yields."""
    return bfloat16_where_native(device) if precision == "bfloat16" else nullcontext()
