"""The child side of a lab process: it holds the VMs, executes the parent's orders, and ends when the parent is gone.

``process`` has the parent's side and the packets between the two. The main thread listens to the parent; vCPUs and
churners run in their own threads, which notify it over a pipe when they end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from ..errors import KvmscopeError, SourceError
from ..linux import libc
from .kvm import Kvm, LabVm
from .spec import BARE, CHURN, MAX_FDS, PACKET, LabSpec, VmReport, vm_report_to_json
from .vmm import RunningGuest, create_vm, install_kick_handler

_VCPUS_IN_PACKET = 200

FdKey = tuple[int, int | None]


class Occupant(Protocol):
    """The entry at one index of a spec: a running VM, a VM that never runs, or a churner.

    ``is_still``: no vCPU is in KVM_RUN. ``has_ended``: all work since ``go`` is done or was stopped.
    """

    @property
    def vm(self) -> LabVm | None: ...
    @property
    def is_still(self) -> bool: ...
    @property
    def has_ended(self) -> bool: ...
    def start(self) -> None: ...
    def go(self, *, when_still: Callable[[], None]) -> None: ...
    def stop(self) -> None: ...
    def report(self) -> VmReport: ...


def main(arguments: list[str]) -> None:
    """Serve the parent until it hangs up, then end the process with all its VMs."""
    parser = argparse.ArgumentParser(prog="kvmscope.lab.process")
    parser.add_argument("--name", required=True, help="the VM's name, for readers of the command line")
    parser.add_argument("--parent", type=int, required=True, help="the process to end with")
    parser.add_argument("--control-fd", type=int, required=True, help="the socket to it")
    options = parser.parse_args(arguments)
    _die_with(options.parent)
    _raise_fd_limit()
    install_kick_handler()
    _Server(socket.socket(fileno=options.control_fd)).serve()
    # At once, without joining threads: the kernel destroys the VMs, running or not.
    os._exit(0)


class _BareVm:
    """A VM that never runs. It has no work, so only ``stop`` ends it."""

    is_still = True

    def __init__(self, api: Kvm, spec: LabSpec, index: int) -> None:
        self._spec, self._index = spec, index
        self.vm = create_vm(api, spec)
        self.has_ended = False

    def start(self) -> None:
        pass

    def go(self, *, when_still: Callable[[], None]) -> None:
        pass

    def stop(self) -> None:
        self.has_ended = True

    def report(self) -> VmReport:
        return VmReport(index=self._index, name=self._spec.vm_name(self._index), pid=os.getpid(), vcpus=())


class _Churner:
    """Creates and destroys VMs one after another, without pause."""

    vm = None

    def __init__(self, api: Kvm, spec: LabSpec, index: int) -> None:
        self._api, self._spec, self._index = api, spec, index
        self._stopping = threading.Event()
        self._churned = 0
        self._error: str | None = None
        self.is_still = True
        create_vm(api, spec).close()  # a VM that cannot be created is an error before go

    @property
    def has_ended(self) -> bool:
        return self.is_still

    def start(self) -> None:
        pass

    def go(self, *, when_still: Callable[[], None]) -> None:
        self.is_still = False
        threading.Thread(target=self._main, args=(when_still,), daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def report(self) -> VmReport:
        return VmReport(
            index=self._index,
            name=self._spec.vm_name(self._index),
            pid=os.getpid(),
            vcpus=(),
            churned=self._churned,
            error=self._error,
        )

    def _main(self, when_still: Callable[[], None]) -> None:
        try:
            while self._churned < self._spec.target and not self._stopping.is_set():
                create_vm(self._api, self._spec).close()
                self._churned += 1
        except KvmscopeError as error:
            self._error = str(error)
        finally:
            self.is_still = True
            when_still()


_KINDS: Mapping[str, Callable[[Kvm, LabSpec, int], Occupant]] = {BARE: _BareVm, CHURN: _Churner}


class _Server:
    """Executes the parent's orders, one packet at a time."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._occupants: dict[int, Occupant] = {}
        self._held: dict[FdKey, int] = {}
        self._is_going = False
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._control:
                        if not (packet := self._hear()):
                            return
                        self._obey(json.loads(packet))
                    else:
                        os.read(self._wake_reader, PACKET)
                        self._tell_if_done()

    def _hear(self) -> bytes:
        """The next order; empty if the parent has gone, even with unread answers."""
        try:
            return self._control.recv(PACKET)
        except ConnectionResetError:
            return b""

    def _obey(self, order: dict[str, Any]) -> None:
        try:
            match order["do"]:
                case "create":
                    self._create(LabSpec.from_json(order["spec"]), range(order["first"], order["last"]))
                case "go":
                    self._go()
                case "stop":
                    self._stop()
                case "report":
                    self._report()
                case "stats_fds":
                    self._pass_stats_fds()
                case "halt_poll":
                    self._limit_halt_poll(order["limit_ns"])
        except KvmscopeError as error:
            self._fail(error)

    def _create(self, spec: LabSpec, indices: range) -> None:
        api = Kvm()
        for index in indices:
            occupant = _KINDS.get(spec.workload, RunningGuest)(api, spec, index)
            occupant.start()
            self._occupants[index] = occupant
        if spec.hold_stats_fds:
            self._held = dict(self._open_stats_fds())
        self._say({"event": "ready"})

    def _go(self) -> None:
        self._is_going = True
        for occupant in self._occupants.values():
            occupant.go(when_still=self._wake)

    def _stop(self) -> None:
        for occupant in self._occupants.values():
            occupant.stop()
        # Sent even if it was sent before: Ctrl-C may have come while the parent read it.
        self._is_going = True
        self._tell_if_done()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full of the same message
            os.write(self._wake_writer, b"!")

    def _tell_if_done(self) -> None:
        if self._is_going and all(occupant.has_ended for occupant in self._occupants.values()):
            self._is_going = False
            self._say({"event": "done"})

    def _report(self) -> None:
        for occupant in self._occupants.values():
            report = occupant.report()
            for start in range(0, max(1, len(report.vcpus)), _VCPUS_IN_PACKET):
                part = replace(report, vcpus=report.vcpus[start : start + _VCPUS_IN_PACKET])
                self._say({"answer": "report", "vm": vm_report_to_json(part)})
        self._say({"end": "report"})

    def _limit_halt_poll(self, limit_ns: int) -> None:
        for occupant in self._occupants.values():
            if occupant.vm is not None:
                occupant.vm.limit_halt_poll(limit_ns)
        self._say({"end": "halt_poll"})

    def _pass_stats_fds(self) -> None:
        fds = self._held or dict(self._open_stats_fds())
        keys = list(fds)
        for start in range(0, len(keys), MAX_FDS):
            part = keys[start : start + MAX_FDS]
            packet = json.dumps({"answer": "stats_fds", "keys": part}).encode()
            socket.send_fds(self._control, [packet], [fds[key] for key in part])
        self._say({"end": "stats_fds"})
        if not self._held:
            for fd in fds.values():
                os.close(fd)

    def _open_stats_fds(self) -> Iterator[tuple[FdKey, int]]:
        for index, occupant in self._occupants.items():
            if occupant.vm is None:
                continue
            if not occupant.is_still:
                raise SourceError("the stats fd of a vCPU is available only while the vCPU is outside KVM_RUN")
            yield (index, None), occupant.vm.stats_fd()
            for vcpu in occupant.vm.vcpus:
                yield (index, vcpu.id), vcpu.stats_fd()

    def _fail(self, error: KvmscopeError) -> None:
        evidence = {key: getattr(error, key, None) for key in ("path", "errno")}
        reason, remedy = getattr(error, "reason", str(error)), getattr(error, "remedy", "")
        self._say({"failed": {"slug": error.slug, "reason": reason, "remedy": remedy, **evidence}})

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the parent is gone, so the VMs end


def _die_with(parent: int) -> None:
    libc.signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # the parent died before the line above took effect


def _raise_fd_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
