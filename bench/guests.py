"""VMs to measure on: those of the lab that never run, so that there are as many as one likes."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmscope.lab.process import Running

_VMS_A_PROCESS = 512


def bare_vms(vms: int, vcpus: int) -> AbstractContextManager[Running]:
    """``vms`` VMs with ``vcpus`` vCPUs each, all in one process."""
    return process.start(LabSpec(workload="bare", vms=vms, vcpus=vcpus, one_process=True))


def vms_with_stats_fds(vms: int, vcpus: int) -> AbstractContextManager[Running]:
    """VMs in a process each, which keep their stats fds open, as QEMU does from 8.1 on."""
    return process.start(LabSpec(workload="bare", vms=vms, vcpus=vcpus, hold_stats_fds=True))


@contextmanager
def vms_with_vcpus(total: int, *, each: int = 8) -> Iterator[list[int]]:
    """VMs of ``each`` vCPUs until there are ``total``, in as few processes as their fds allow; their stats fds."""
    with ExitStack() as running:
        fds: list[int] = []
        left = total // each
        while left:
            count = min(left, _VMS_A_PROCESS)
            guests = running.enter_context(bare_vms(count, each))
            guests.wait_for_ready()
            fds += guests.stats_fds().values()
            left -= count
        yield fds
