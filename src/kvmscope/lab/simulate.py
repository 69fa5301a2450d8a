"""A plausible host for machines without KVM: VMs that behave differently, published as stats files.

Any reader sees it through the source ``published``, marked as simulated. The numbers come from ``simulated_kvm``;
another provider is a similar class, added to PROVIDERS.
Rule: every value is a pure function of plan, seed and the time since the simulation began.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, Self

import numpy as np

from ..closing import Closable
from ..errors import SourceError, Unavailable
from ..publish import Publication, StatSet, Vm
from ..sample import U64Array
from ..schema import Scope
from .simulate_plan import VmPlan, plan
from .simulated_apicv import SimulatedApicv, SimulatedHosts
from .simulated_kvm import SimulatedKvm

DEFAULT_VMS: Final = 6
DEFAULT_VCPUS: Final = 2
PERIOD_S: Final = 0.1
"""Time between two updates of all values."""
_OTHER_FILES: Final = 16
"""Number of files that a process has open besides published ones."""


class Provider(Protocol):
    """The values of one provider, for all VMs and vCPUs of a plan."""

    @property
    def stat_sets(self) -> Mapping[Scope, StatSet]:
        """The stat sets for a VM, for a vCPU, or for both."""

    def covers(self, scope: Scope, row: int) -> bool:
        """Whether this subject has the stats; other subjects publish none of this provider."""

    def words(self, scope: Scope, elapsed_s: float) -> U64Array:
        """The words after ``elapsed_s``, shape (subjects, words), in the order of the plan."""


PROVIDERS: Final[tuple[Callable[[Sequence[VmPlan], int], Provider], ...]] = (
    SimulatedKvm,
    SimulatedApicv,
    SimulatedHosts,
)
"""The providers; each is made from the plan and the seed."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A description of the running host."""

    pid: int
    vms: tuple[str, ...]
    vcpus: int


class SimulatedHost(Closable):
    """The host in this process, published until closed. A context manager.

    Raises UsageError if there are no VMs, Unavailable if this process may not open enough files.
    """

    def __init__(
        self,
        *,
        vms: int = DEFAULT_VMS,
        vcpus: int = DEFAULT_VCPUS,
        seed: int = 0,
        providers: Sequence[Callable[[Sequence[VmPlan], int], Provider]] = PROVIDERS,
    ) -> None:
        _check_room_for_files(vms, vcpus, providers)
        self.vms = plan(vms=vms, vcpus=vcpus, seed=seed)
        self.providers = tuple(provider(self.vms, seed) for provider in providers)
        self._published: list[Vm] = []
        self._files: list[tuple[Provider, Scope, list[tuple[int, Publication]]]] = []
        try:
            self._publish()
        except OSError as error:
            self.close()
            raise Unavailable(
                f"cannot publish {vms} VMs of {vcpus} vCPUs: {error.strerror}",
                remedy="use fewer of them, or a higher limit of open files (ulimit -n)",
                errno=error.errno,
            ) from error

    def about(self) -> Simulated:
        return Simulated(os.getpid(), tuple(vm.name for vm in self.vms), sum(vm.vcpus for vm in self.vms))

    def advance(self, elapsed_s: float) -> None:
        """Sets every value to its state ``elapsed_s`` after the simulation began."""
        for provider, scope, files in self._files:
            words = provider.words(scope, elapsed_s)
            for row, file in files:
                np.copyto(file.words, words[row])

    def run(self, wait: Callable[[float], bool]) -> None:
        """Updates the values until ``wait``, which is called with the seconds to the next update, returns True."""
        began = time.monotonic()
        while not wait(PERIOD_S):
            self.advance(time.monotonic() - began)

    def run_for(self, seconds: float | None) -> None:
        """Updates the values for ``seconds``; without end if None."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds

        def wait(step_s: float) -> bool:
            time.sleep(max(0.0, min(step_s, deadline - time.monotonic())))
            return time.monotonic() >= deadline

        self.run(wait)

    def close(self) -> None:
        """Ends every publication. Idempotent."""
        for vm in self._published:
            vm.close()
        self._published.clear()
        self._files.clear()

    def _publish(self) -> None:
        now_ns = time.time_ns()
        for vm in self.vms:
            self._published.append(Vm(vm.name, simulated=True, created_ns=now_ns - int(vm.age_s * 1e9)))
        subjects: Mapping[Scope, list[tuple[Vm, int | None]]] = {
            Scope.VM: [(vm, None) for vm in self._published],
            Scope.VCPU: [(vm, n) for vm, of in zip(self._published, self.vms, strict=True) for n in range(of.vcpus)],
        }
        for provider in self.providers:
            for scope, stat_set in provider.stat_sets.items():
                first = provider.words(scope, 0.0)
                files = [
                    (row, vm.publish(stat_set, vcpu=vcpu, words=first[row]))
                    for row, (vm, vcpu) in enumerate(subjects[scope])
                    if provider.covers(scope, row)
                ]
                self._files.append((provider, scope, files))


def _check_room_for_files(
    vms: int, vcpus: int, providers: Sequence[Callable[[Sequence[VmPlan], int], Provider]]
) -> None:
    """Raises Unavailable, before any VM is planned, if the VMs need more files than this process may open."""
    sets = [provider(plan(vms=1, vcpus=1, seed=0), 0).stat_sets for provider in providers]
    a_vm, a_vcpu = (sum(scope in of for of in sets) for scope in (Scope.VM, Scope.VCPU))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = (most - _OTHER_FILES) // (a_vm + a_vcpu * max(vcpus, 1))
    if most != resource.RLIM_INFINITY and vms > room:
        can = f"{max(room, 0)} VMs of {vcpus} vCPUs are possible" if room > 0 else "not even one is possible"
        raise Unavailable(
            f"cannot publish {vms} VMs of {vcpus} vCPUs: each set of statistics is a file, and this process may have "
            f"{most} open; {can}",
            remedy="use fewer of them, or a higher limit of open files (ulimit -n)",
            errno=errno.EMFILE,
        )


class SimulatedProcess:
    """The host in a separate process, which ends with this object or with the process that created it."""

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kvmscope.lab.simulate", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self._process.stdout is not None
        try:
            said = self._process.stdout.readline()
        except BaseException:
            self.kill()
            self.close()
            raise
        if not said:
            self.close()
            raise SourceError(f"the simulated host did not start (status {self._process.returncode})")
        answer: dict[str, Any] = json.loads(said)
        self.about = Simulated(answer["pid"], tuple(answer["vms"]), answer["vcpus"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL the process and wait for it, without cleanup, as if a VMM crashed."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends the process. Idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.kill()  # Ctrl-C: do not wait until it has started
        self.close()


def start(*, vms: int = DEFAULT_VMS, vcpus: int = DEFAULT_VCPUS, seed: int = 0) -> SimulatedProcess:
    """Starts a simulated host in a separate process; returns when it is published. Must be closed.

    Raises UsageError if there are no VMs, SourceError if the process cannot publish them.
    """
    plan(vms=vms, vcpus=vcpus, seed=seed)
    return SimulatedProcess([f"--vms={vms}", f"--vcpus={vcpus}", f"--seed={seed}"])


def raise_fd_limit() -> None:
    """Raises the limit of open files as far as allowed: each published file takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(arguments: list[str]) -> None:
    """The process of ``SimulatedProcess``: runs until its standard input ends."""
    parser = argparse.ArgumentParser(prog="kvmscope.lab.simulate")
    for option, default in (("--vms", DEFAULT_VMS), ("--vcpus", DEFAULT_VCPUS), ("--seed", 0)):
        parser.add_argument(option, type=int, default=default)
    options = parser.parse_args(arguments)
    raise_fd_limit()
    with SimulatedHost(vms=options.vms, vcpus=options.vcpus, seed=options.seed) as host:
        sys.stdout.write(json.dumps(asdict(host.about())) + "\n")
        sys.stdout.flush()
        host.run(lambda seconds: bool(select.select([sys.stdin], [], [], seconds)[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
