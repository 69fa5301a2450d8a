"""The VMs whose memory KVM logs for dirty pages, from the memory slots that the iterator read in the same sample.

A VMM that redraws a screen logs the video memory all the time; QEMU does so for each VM that has a screen. Therefore a
VM counts as logged if at least half of its memory is: a migration logs all of it that can be written to.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ....sample import Sample
from ....schema import Scope

_PROVIDER, _LOGGED, _ALL = "settings", "dirty_logged_pages", "memory_pages"
_LEAST_SHARE = 0.5


def logged_vms(sample: Sample) -> npt.NDArray[np.bool_] | None:
    """For each VM of the sample whether its memory is logged; None if this kernel's slots cannot be looked through."""
    block = sample.block(_PROVIDER, Scope.VM)
    if block is None or not {_LOGGED, _ALL} <= set(block.schema.names):
        return None
    found = np.zeros(len(sample.vms), np.bool_)
    logged, pages = block.column(_LOGGED), block.column(_ALL)
    found[block.rows] = (logged > 0) & (logged >= _LEAST_SHARE * pages)
    return found
