"""The VMMs on this host and the statistics fds that this process holds of their VMs.

It finds VMMs, duplicates the stats fds that they keep open, and closes them in time; ``statsfd`` reads them.
Rules:
- A held stats fd keeps its VM in the kernel alive, with frozen counters that can still be read (since Linux 6.5 and its
  stable backports; before, such a read was a use after free). So a file is closed as soon as its VMM ends, execs, or
  closes its own; a successful read is not evidence that the VM lives.
- The kernel does not report which VM a vCPU's fd belongs to: the id string in a stats file contains the id of the
  thread that created it, and the fd's link the vCPU's id. In a process with one VM this is unambiguous. With several,
  only files held since before the second VM came stay assigned; the rest is a gap, never a guess.
- A VM whose fd several processes hold (after a fork) counts once, for the process that started first.
Source: virt/kvm/kvm_main.c, Linux 5.14 to 7.3.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cmp_to_key

from ..errors import FormatError, SourceError, UsageError
from ..linux.files import PROC
from ..linux.kvmfiles import FdKind, KvmFd, KvmHolder, KvmScan, look_at, scan
from ..linux.namespaces import why_processes_are_hidden
from ..linux.pidfd import ExitWatch, compare_files, duplicate_fd, has_exited, open_pidfd
from ..linux.procfs import read_status, start_ticks, thread_ids
from ..sample import NOT_KNOWN, Gap, VmId
from ..schema import Scope
from .heldfiles import PROVIDER, HeldFile, StatsFiles, close_all, is_still_held
from .vm_ids import vm_id_in_debugfs, vm_id_in_process

_OTHER_SOURCES = "source bpf can see it, and qmp if it is QEMU's"
_RIGHTS = "CAP_SYS_PTRACE, or the VMM's own uid where Yama allows it (kernel.yama.ptrace_scope=0)"

_adoptions = itertools.count(1)


@dataclass(eq=False, slots=True)
class HeldVm:
    """A VM: the files held of it, the vCPUs known to exist, and its gaps."""

    id: VmId
    files: dict[tuple[Scope, int | None], HeldFile] = field(default_factory=dict)
    seen_vcpus: frozenset[int] = frozenset()
    gaps: list[Gap] = field(default_factory=list)

    @property
    def label(self) -> str:
        own = self.files.get((Scope.VM, None))
        return own.label if own else ""

    @property
    def vcpu_ids(self) -> list[int]:
        return sorted(self.seen_vcpus | {vcpu for _, vcpu in self.files if vcpu is not None})

    def add_gap(self, reason: str, vcpu: int | None = None) -> None:
        self.gaps.append(Gap(reason, vm=self.id, vcpu=vcpu, provider=PROVIDER))

    def drop(self, files: Iterable[HeldFile]) -> None:
        for file in list(files):
            file.close()
            self.files.pop(file.key, None)


def process_title(pid: int, command: str) -> str:
    """``process 4001 (python3)``"""
    return f"process {pid} ({command})" if command else f"process {pid}"


@dataclass(eq=False, slots=True)
class Vmm:
    """A process and its VMs: discovered ones by the number of their fd, adopted ones by the caller's name.

    ``pidfd`` is -1 if the end of the process is not watched: the process is unknown, or it is this one.
    """

    pid: int
    started_ticks: int
    command: str = ""
    pidfd: int = -1
    vms: dict[int | str, HeldVm] = field(default_factory=dict)
    serial: int = 0

    @property
    def title(self) -> str:
        """The process, not the VM, whose name is not known here."""
        return process_title(self.pid, self.command)

    @property
    def threads(self) -> list[int]:
        """The thread ids, the main thread first, since it usually creates the VM."""
        return [self.pid, *thread_ids(self.pid)]

    def find_vm(self, number: int) -> HeldVm:
        """The VM behind fd ``number``, with an id that no VM of this process had before if it is new."""
        if number not in self.vms:
            in_process = vm_id_in_process(self.pid, self.started_ticks, self.serial)
            self.vms[number] = HeldVm(vm_id_in_debugfs(self.threads, number) or in_process)
            self.serial += 1
        return self.vms[number]

    def drop_vm(self, key: int | str) -> None:
        vm = self.vms.pop(key)
        vm.drop(vm.files.values())

    def drop_vms(self) -> None:
        for key in list(self.vms):
            self.drop_vm(key)

    def close(self) -> None:
        """Close everything; the pidfd must not be watched any more."""
        self.drop_vms()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Vmms:
    """All known VMMs. Must be closed."""

    def __init__(self, *, proc_root: str = PROC) -> None:
        self.files = StatsFiles()
        self.gaps: list[Gap] = []
        self.unseen: list[tuple[str, str]] = []
        """The reasons why walks may miss VMMs, each with a remedy."""
        self.is_settled = True
        """False if a process changed its VMs while it was inspected: walk again at the next opportunity."""
        self._proc_root = proc_root
        self._watch = ExitWatch()
        self._found: dict[tuple[int, int], Vmm] = {}
        self._adopted: dict[str, Vmm] = {}

    def __iter__(self) -> Iterator[Vmm]:
        """In order of the start of the process, the best known approximation of the order of creation."""
        return iter(sorted((*self._found.values(), *self._adopted.values()), key=lambda vmm: vmm.started_ticks))

    def fileno(self) -> int:
        """An fd that is readable once a VMM has ended."""
        return self._watch.fileno()

    def close(self) -> None:
        for vmm in list(self):
            self._forget(vmm)
        self._watch.close()

    def adopt(self, fds: Iterable[int], *, vm: str, pid: int | None) -> VmId:
        """See ``StatsFdSource.adopt``."""
        taken = self.files.take_all(list(fds))
        try:
            vmm = self._adopted.get(vm) or self._adopt_process(vm, pid)
        except BaseException:
            close_all(taken)
            raise
        held = vmm.vms[vm]
        for file in taken:
            if held.files.setdefault(file.key, file) is not file:
                file.close()
        return held.id

    def release(self, vm: str) -> None:
        """Drop an adopted VM. Raises UsageError if there is none of that name."""
        if vm not in self._adopted:
            raise UsageError(f"no VM was adopted as {vm!r}", nearest=tuple(self._adopted))
        self._forget(self._adopted[vm])

    def close_dead(self) -> list[VmId]:
        """Release the VMs whose VMM has ended; returns their ids."""
        ended = set(self._watch.exited())
        dead = [vmm for vmm in self if vmm.pidfd in ended] if ended else []
        ids = [vm.id for vmm in dead for vm in vmm.vms.values()]
        for vmm in dead:
            self._forget(vmm)
        return ids

    def close_abandoned(self) -> list[VmId]:
        """Release files that a living VMM no longer holds itself, because it closed them or called exec.

        Returns the ids of their VMs. A VM without files is gone. One file of each VM is checked, since a VMM that
        closes a VM closes all of its files.
        """
        abandoned = []
        for vmm in self._found.values():
            for key, vm in list(vmm.vms.items()):
                one = next(iter(vm.files.values()), None)
                if one is None or is_still_held(vmm.pid, one, proc_root=self._proc_root):
                    continue
                abandoned.append(vm.id)
                vm.drop(
                    [file for file in vm.files.values() if not is_still_held(vmm.pid, file, proc_root=self._proc_root)]
                )
                if not vm.files:
                    vmm.drop_vm(key)
        return abandoned

    def discover(self) -> None:
        """Walk /proc: take up new VMMs and fds, drop what is gone, and report what cannot be read."""
        self.is_settled = True
        self.gaps = []
        walk = scan(proc_root=self._proc_root)
        self.unseen = _unseen(walk, self._proc_root)
        self.gaps += [Gap(f"{reason}; {remedy}", provider=PROVIDER) for reason, remedy in self.unseen]
        owned = _owned_vms(walk.holders)
        adopted = {vmm.pid for vmm in self._adopted.values()}
        seen = set()
        for holder, numbers in owned:
            if holder.pid in adopted:
                self._check_adopted(holder, len(numbers))
                continue
            vmm = self._find(holder)
            if vmm is not None:
                seen.add((vmm.pid, vmm.started_ticks))
                self._update(vmm, holder, numbers, {other.pid for other, _ in owned})
        for key in self._found.keys() - seen:
            # Still watched, so a VM that it creates later does not get the id of an earlier one.
            self._found[key].drop_vms()
        self._close_adopted_without_vm({holder.pid for holder in walk.holders})

    # Processes.

    def _adopt_process(self, vm: str, pid: int | None) -> Vmm:
        number = next(_adoptions)
        own = os.getpid()
        vmm = Vmm(NOT_KNOWN if pid is None else pid, 0)
        if pid is not None:
            try:
                vmm.pidfd = open_pidfd(pid) if pid != own else -1
                vmm.started_ticks = start_ticks(pid)
            except OSError as error:
                vmm.close()
                raise SourceError(f"no process {pid} to adopt a VM of", errno=error.errno) from error
            if vmm.pidfd >= 0:
                self._watch.add(vmm.pidfd)
        # Counted by this process and negative, so it differs from the id of every discovered VM.
        vmm.vms[vm] = HeldVm(vm_id_in_process(own, start_ticks(own), -number))
        self._adopted[vm] = vmm
        return vmm

    def _find(self, holder: KvmHolder) -> Vmm | None:
        """The VMM of this process, watched from now on if it is new; None if it has ended."""
        key = holder.pid, holder.started_ticks
        if key in self._found:
            return self._found[key]
        try:
            pidfd = open_pidfd(holder.pid)
        except ProcessLookupError:
            return None
        vmm = Vmm(holder.pid, holder.started_ticks, holder.command, pidfd)
        self._watch.add(pidfd)
        self._found[key] = vmm
        return vmm

    def _forget(self, vmm: Vmm) -> None:
        if vmm.pidfd >= 0:
            self._watch.remove(vmm.pidfd)
        self._found = {key: other for key, other in self._found.items() if other is not vmm}
        self._adopted = {key: other for key, other in self._adopted.items() if other is not vmm}
        vmm.close()

    def _check_adopted(self, holder: KvmHolder, vms: int) -> None:
        adopted = sum(len(vmm.vms) for vmm in self._adopted.values() if vmm.pid == holder.pid)
        if vms > adopted:
            reason = f"{process_title(holder.pid, holder.command)} has {vms} VMs, of which {adopted} were handed over"
            self.gaps.append(Gap(reason, provider=PROVIDER))

    def _close_adopted_without_vm(self, holders: set[int]) -> None:
        """Release adopted VMs whose process can be inspected and holds no KVM file any more."""
        for vmm in list(self._adopted.values()):
            if vmm.pidfd < 0 or vmm.pid in holders:
                continue
            with suppress(OSError):
                if not any(
                    fd.kind in (FdKind.VM, FdKind.VCPU) for fd in look_at(vmm.pid, proc_root=self._proc_root).fds
                ):
                    self._forget(vmm)

    # VMs of one process.

    def _update(self, vmm: Vmm, holder: KvmHolder, numbers: list[int], vmm_pids: set[int]) -> None:
        for key in list(vmm.vms):
            vm = vmm.vms[key]
            stale = [file for file in vm.files.values() if not is_still_held(vmm.pid, file, proc_root=self._proc_root)]
            if key not in numbers or (stale and len(stale) == len(vm.files)):
                vmm.drop_vm(key)
            else:
                vm.drop(stale)
        for number in numbers:
            vm = vmm.find_vm(number)
            vm.gaps = []
            vm.seen_vcpus = frozenset()
        if len(numbers) == 1:
            self._attach(vmm, vmm.vms[numbers[0]], holder, vmm_pids)
        else:
            _tell_apart(vmm, len(numbers))

    def _attach(self, vmm: Vmm, vm: HeldVm, holder: KvmHolder, vmm_pids: set[int]) -> None:
        """Duplicate the stats fds of a process's only VM that are not held yet."""
        vm.seen_vcpus = frozenset(fd.vcpu_id for fd in holder.of(FdKind.VCPU) if fd.vcpu_id is not None)
        held = {file.theirs for file in vm.files.values()}
        new = [fd for fd in (*holder.of(FdKind.VM_STATS), *holder.of(FdKind.VCPU_STATS)) if fd.number not in held]
        taken = list(self._duplicate(vmm, vm, new))
        if taken and not self._is_unchanged(vmm, holder):
            close_all(taken)
            self.is_settled = False
            return
        for file in taken:
            reason = _why_foreign(vmm, vm, file, vmm_pids, self._proc_root)
            if reason:
                file.close()
                vm.add_gap(reason, file.vcpu_id)
        _put_in_place(vm, [file for file in taken if file.fd >= 0])
        if not vm.gaps:
            _tell_missing(vmm, vm)

    def _duplicate(self, vmm: Vmm, vm: HeldVm, fds: Iterable[KvmFd]) -> Iterator[HeldFile]:
        for theirs in fds:
            try:
                yield self.files.take(duplicate_fd(vmm.pidfd, theirs.number), theirs=theirs.number)
            except PermissionError:
                reason = f"the statistics fds of {vmm.title} may not be duplicated; needs {_RIGHTS}"
                vm.add_gap(reason)
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    vm.add_gap("this process may not hold more files; raise its limit (ulimit -n)")
                    return
                self.is_settled = False
            except UsageError:
                # The VMM has just closed it, and another file has its number.
                self.is_settled = False
            except FormatError as error:
                vm.add_gap(f"its statistics are not in the kernel's format: {error}", theirs.vcpu_id)

    def _is_unchanged(self, vmm: Vmm, before: KvmHolder) -> bool:
        """Whether the process still has the one VM that it had before its stats fds were duplicated.

        A VM's fd is created before those of its statistics, so a VM added in that time would be seen.
        """
        try:
            now = look_at(vmm.pid, proc_root=self._proc_root)
        except OSError:
            return False
        return now.of(FdKind.VM) == before.of(FdKind.VM) and not has_exited(vmm.pidfd)


def _unseen(walk: KvmScan, proc_root: str) -> list[tuple[str, str]]:
    unseen = []
    hidden = why_processes_are_hidden(proc_root=proc_root)
    if hidden is not None:
        reason, remedy = hidden
        unseen.append((f"{reason}; VMMs may be missing", remedy))
    if walk.hidden:
        who, what = ("process", "a VMM") if walk.hidden == 1 else ("processes", "VMMs")
        unseen.append((f"{walk.hidden} {who} could not be inspected and may be {what}", f"needs {_RIGHTS}"))
    return unseen


def _owned_vms(holders: Iterable[KvmHolder]) -> list[tuple[KvmHolder, list[int]]]:
    """The processes that own VMs, each with one fd number for each of its VMs, in the order given."""
    fds = [(holder, fd.number) for holder in holders for fd in holder.of(FdKind.VM)]
    owned: dict[int, tuple[KvmHolder, list[int]]] = {}
    for holder, number in _without_duplicates(fds):
        owned.setdefault(holder.pid, (holder, []))[1].append(number)
    return list(owned.values())


def _without_duplicates(fds: list[tuple[KvmHolder, int]]) -> list[tuple[KvmHolder, int]]:
    """The first fd of each open file, in the order given; all of them if the kernel cannot compare files."""

    def compare(a: int, b: int) -> int:
        (holder_a, number_a), (holder_b, number_b) = fds[a], fds[b]
        return compare_files(holder_a.pid, number_a, holder_b.pid, number_b) or 0

    by_file = sorted(range(len(fds)), key=cmp_to_key(compare))
    first = dict.fromkeys(range(len(fds)), True)
    for before, after in itertools.pairwise(by_file):
        # The sort is stable, so the first of equal files stays first.
        (holder_a, number_a), (holder_b, number_b) = fds[before], fds[after]
        if compare_files(holder_a.pid, number_a, holder_b.pid, number_b) == 0:
            first[after] = False
    return [fd for index, fd in enumerate(fds) if first[index]]


def _why_foreign(vmm: Vmm, vm: HeldVm, file: HeldFile, vmm_pids: set[int], proc_root: str) -> str:
    """Why a stats fd held by a VMM may belong to a VM of another VMM, which it only monitors; "" if no sign of that."""
    if file.vcpu_id is not None and file.vcpu_id not in vm.seen_vcpus:
        return f"{vmm.title} holds a statistics fd of a vCPU that it does not hold"
    creator = file.label.removeprefix("kvm-").partition("/")[0]
    status = read_status(int(creator), proc_root=proc_root) if creator.isdecimal() else None
    if status is not None and status.tgid != vmm.pid and status.tgid in vmm_pids:
        return f"{vmm.title} holds a statistics fd that was made by process {status.tgid}"
    return ""


def _put_in_place(vm: HeldVm, taken: list[HeldFile]) -> None:
    """Add files to a VM. Two files of one vCPU are equal; if their labels differ, both are ambiguous and left out."""
    for file in taken:
        other = vm.files.setdefault(file.key, file)
        if other is file:
            continue
        if other.label != file.label:
            vm.drop([other])
            vm.add_gap("two statistics fds of the same VM or vCPU have different ids", file.vcpu_id)
        file.close()


def _tell_apart(vmm: Vmm, vms: int) -> None:
    reason = (
        f"{vmm.title} has {vms} VMs, and it is unknown to which of them its vCPUs and statistics "
        f"fds belong; source bpf knows"
    )
    for vm in vmm.vms.values():
        vm.add_gap(reason)


def _tell_missing(vmm: Vmm, vm: HeldVm) -> None:
    who = vmm.title
    if not vm.files:
        vm.add_gap(f"{who} holds no statistics fd open (QEMU does from 8.1 on); {_OTHER_SOURCES}")
        return
    if (Scope.VM, None) not in vm.files:
        vm.add_gap(f"{who} holds no statistics fd of the VM itself open, only of vCPUs; {_OTHER_SOURCES}")
    for vcpu in sorted(vm.seen_vcpus - {vcpu for _, vcpu in vm.files}):
        vm.add_gap(f"{who} holds no statistics fd of this vCPU open; {_OTHER_SOURCES}", vcpu)
