"""The lab's VMM's own statistics of its guests, published as any VMM may publish statistics.

Not here: the VMM (``vmm``), which loads this module only to publish, since it imports numpy.
"""

from __future__ import annotations

from ..publish import Bit, Counter, Stats, Tier
from ..schema import Scope


class RunStats(Stats, provider="kvmscope_lab", scope=Scope.VCPU):
    """One vCPU, written by the thread that runs it."""

    userspace_exits = Counter("Returns of KVM_RUN to this VMM.", tier=Tier.STABLE)
    io_exits = Counter("Those for a port that the VMM emulates.", tier=Tier.STABLE)
    requests_served = Counter("What the guest asked the VMM to do for it, and it did.", tier=Tier.STABLE)
    is_still = Bit("The guest has ended, or was stopped.", tier=Tier.STABLE)
