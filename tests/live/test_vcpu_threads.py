"""The thread of a vCPU: known while it lives, and unknown once it has ended, whoever has its number by then."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvmscope.lab.kvm import Kvm, Vcpu
from kvmscope.sample import NOT_KNOWN, Sample
from kvmscope.sources.bpf.source import BpfSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]


@dataclass
class Runner:
    """A thread that has been in KVM_RUN once, and lives until it is told to end."""

    vcpu: Vcpu

    def __post_init__(self) -> None:
        self._has_run, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._has_run.wait(10)

    @property
    def tid(self) -> int:
        assert self._thread.native_id is not None
        return self._thread.native_id

    def end(self) -> None:
        self._may_end.set()
        self._thread.join()
        deadline = time.monotonic() + 10
        while Path(f"/proc/self/task/{self.tid}").exists():  # Python's part of it ends first
            assert time.monotonic() < deadline, "the thread did not end in time"
            time.sleep(0.001)

    def _run(self) -> None:
        self.vcpu.request_exit()
        self.vcpu.run()
        self._has_run.set()
        self._may_end.wait(60)


def tids_here(sample: Sample) -> list[int]:
    """Of the vCPUs of this process, in the order of their ids."""
    (row,) = (row for row, pid in enumerate(sample.vms.pid.tolist()) if pid == os.getpid())
    tids: list[int] = sample.vcpus.tid[sample.vcpus_of_vm[row]].tolist()
    return tids


def test_a_vcpu_whose_thread_has_ended_has_no_thread() -> None:
    with Kvm() as kvm, kvm.create_vm() as vm, closing(BpfSource()) as source:
        vcpus = [vm.create_vcpu(number) for number in range(3)]
        runners = [Runner(vcpu) for vcpu in vcpus[:2]]
        assert tids_here(source.read()) == [runners[0].tid, runners[1].tid, NOT_KNOWN]
        runners[1].end()
        assert tids_here(source.read()) == [runners[0].tid, NOT_KNOWN, NOT_KNOWN]
        again = Runner(vcpus[1])  # plugged in again, and run by a new thread
        assert tids_here(source.read()) == [runners[0].tid, again.tid, NOT_KNOWN]
        for runner in (runners[0], again):
            runner.end()
        assert tids_here(source.read()) == [NOT_KNOWN] * 3


def test_a_number_that_another_thread_has_by_now_is_not_taken_for_the_vcpus() -> None:
    with Kvm() as kvm, kvm.create_vm() as vm, closing(BpfSource()) as source:
        runner = Runner(vm.create_vcpu(0))
        number = runner.tid
        assert tids_here(source.read()) == [number]
        runner.end()
        with reusing(number):
            assert tids_here(source.read()) == [NOT_KNOWN]


@contextmanager
def reusing(number: int) -> Iterator[None]:
    """A process that has this number, which a thread had before."""
    try:
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as last:  # noqa: PTH123
            last.write(str(number - 1))
    except OSError as error:
        pytest.skip(f"this kernel gives no process a chosen number: {error.strerror}")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os._exit(0)
    try:
        if child != number:
            pytest.skip("another process of this host was faster to take the number")
        yield
    finally:
        os.close(writer)
        os.close(reader)
        os.kill(child, 9)
        os.waitpid(child, 0)
