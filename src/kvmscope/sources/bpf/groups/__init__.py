"""Groups that count events: off until asked for, one BPF object each, and gone when closed.

``groups/*.bpf.c`` are the programs and ``common.h`` what they share; a plan (``exits.py`` …) says what one loads on
this kernel and how what it counts is described; ``loaded`` loads it for this process, ``pinned`` leaves it for others;
``slots`` joins what was counted to the VMs and vCPUs of a sample.

Group ``apicv`` is not one of these: it counts inside of the iterator's own object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import exits, mmu_lock, userspace, wakeups
from .base import Plan
from .kernel import KernelFacts

PLANS: Mapping[str, Callable[[KernelFacts], Plan]] = {
    exits.NAME: exits.plan,
    mmu_lock.NAME: mmu_lock.plan,
    userspace.NAME: userspace.plan,
    wakeups.NAME: wakeups.plan,
}
"""Every group by name, and what makes its plan for a kernel; raises Unavailable if that has nothing to be counted."""
