"""The VMs with dirty logging, from the memory slots that the iterator read in the same sample.

A VMM that redraws a screen logs the video memory all the time; QEMU does so for each VM with a display. So a VM counts
as logged if at least half of its memory is: a migration logs all writable memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ....sample import Sample
from ....schema import Scope

_PROVIDER, _LOGGED, _ALL = "settings", "dirty_logged_pages", "memory_pages"
_LEAST_SHARE = 0.5


def logged_vms(sample: Sample) -> npt.NDArray[np.bool_] | None:
    """Whether the memory of each VM of the sample is logged; None if this kernel's memory slots cannot be read."""
    block = sample.block(_PROVIDER, Scope.VM)
    if block is None or not {_LOGGED, _ALL} <= set(block.schema.names):
        return None
    found = np.zeros(len(sample.vms), np.bool_)
    logged, pages = block.column(_LOGGED), block.column(_ALL)
    found[block.rows] = (logged > 0) & (logged >= _LEAST_SHARE * pages)
    return found
