"""VMs in separate processes: start, control, reports, and their end with the parent process.

The child is ``python -m kvmscope.lab.process --name NAME …``: its command line identifies its VM. Parent and child
exchange JSON over a socket, one message per packet; the child passes stats fds by SCM_RIGHTS.
Rule: no VM outlives its parent. The child dies with the parent (PR_SET_PDEATHSIG) and at the end of the socket.
The parent must therefore start it from a thread that keeps running.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from ..errors import KvmscopeError, PermissionNeeded, SourceError, Unavailable, UsageError
from .spec import MAX_FDS, PACKET, LabSpec, Report, VmReport, vm_report_from_json

StatsFds = Mapping[tuple[int, int | None], int]
"""fd by (VM's index, vCPU id); None for the VM's own statistics."""


_CLOSE_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 60.0
_ERRORS: Mapping[str, type[KvmscopeError]] = {kind.slug: kind for kind in (SourceError, Unavailable, PermissionNeeded)}


def start(spec: LabSpec) -> Running:
    """Start the processes of ``spec``, one per VM or one for all; they set up and then wait for ``go``. Must be closed.

    Raises UsageError if the spec is impossible.
    """
    return Running(spec.checked())


class Running:
    """The processes of one spec. A context manager; closing it ends every one of them and its VMs."""

    def __init__(self, spec: LabSpec) -> None:
        self.spec = spec
        self._children: list[_Child] = []
        groups = [range(spec.vms)] if spec.one_process else [range(i, i + 1) for i in range(spec.vms)]
        try:
            for group in groups:
                self._children.append(_Child(spec, group))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes, in the order of their VMs."""
        return tuple(child.pid for child in self._children)

    @property
    def pid(self) -> int:
        """The one process; ValueError if there are several."""
        (pid,) = self.pids
        return pid

    def wait_for_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until every VM is set up. Raises the error of its process as Unavailable or PermissionNeeded."""
        deadline = time.monotonic() + timeout_s
        for child in self._children:
            child.wait_for("ready", deadline)

    def go(self) -> None:
        """Let every guest run, after waiting until all are ready."""
        self.wait_for_ready()
        for child in self._children:
            child.tell("go")

    def limit_halt_poll(self, limit_ns: int) -> None:
        """Set the halt polling limit of all VMs, which may be running; 0 switches polling off."""
        for child in self._children:
            child.order("halt_poll", limit_ns=limit_ns)

    def stop(self) -> None:
        """End every run; ``wait_for_done`` then returns soon."""
        for child in self._children:
            child.tell("stop")

    def wait_for_done(self, timeout_s: float) -> Report:
        """Wait until every vCPU is done, stopped or failed. Raises SourceError at the deadline or if a process died."""
        deadline = time.monotonic() + timeout_s
        for child in self._children:
            child.wait_for("done", deadline)
        return self.report()

    def wait_for_end(self, timeout_s: float) -> bool:
        """Like ``wait_for_done``, but returns False at the deadline."""
        deadline = time.monotonic() + timeout_s
        return all(child.hears("done", deadline) for child in self._children)

    def report(self) -> Report:
        """The work of every vCPU so far."""
        vms = [vm for child in self._children for vm in child.report()]
        return Report(workload=self.spec.workload, count=self.spec.count, vms=tuple(vms))

    def stats_fds(self) -> StatsFds:
        """The stats fds of every VM and vCPU, opened in their processes and passed to this one. They close with this
        object.

        A vCPU's fd can be opened only outside KVM_RUN: before ``go`` or after its end, unless the spec keeps it open.
        """
        return {key: fd for child in self._children for key, fd in child.stats_fds().items()}

    def kill(self) -> None:
        """SIGKILL every process and wait for it, without cleanup, as if a VMM crashed."""
        for child in self._children:
            child.kill()

    def close(self) -> None:
        """End every process and close the passed fds. Idempotent."""
        for child in self._children:
            child.hang_up()
        for child in self._children:
            child.reap()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.kill()  # Ctrl-C: do not wait until a process that is just starting has received the order to end
        self.close()


class _Child:
    """One process with the VMs at ``indices``, and the parent's end of its socket."""

    def __init__(self, spec: LabSpec, indices: range) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        name = spec.vm_name(indices[0]) if len(indices) == 1 else spec.name
        command = [sys.executable, "-m", "kvmscope.lab.process", "--name", name, "--parent", str(os.getpid())]
        with theirs:
            # In a separate process group, Ctrl-C reaches only the parent, which then requests reports.
            self._process = subprocess.Popen(
                [*command, "--control-fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
        self._socket = ours
        self._heard: set[str] = set()
        self._fds: dict[tuple[int, int | None], int] = {}
        self.pid = self._process.pid
        self.tell("create", spec=spec.to_json(), first=indices.start, last=indices.stop)

    def tell(self, what: str, **more: Any) -> None:
        try:
            self._socket.send(json.dumps({"do": what, **more}).encode())
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._gone() from error

    def order(self, what: str, **more: Any) -> None:
        """Send an order, and wait until it was executed."""
        self.tell(what, **more)
        for _ in self._answers(what):
            pass

    def hears(self, event: str, deadline: float) -> bool:
        """Whether the process has sent ``event``, or sends it before the deadline."""
        while event not in self._heard:
            try:
                self._receive(deadline)
            except TimeoutError:
                return False
        return True

    def wait_for(self, event: str, deadline: float) -> None:
        if not self.hears(event, deadline):
            raise self._late()

    def report(self) -> list[VmReport]:
        self.tell("report")
        parts: dict[int, VmReport] = {}
        for answer in self._answers("report"):
            part = vm_report_from_json(answer["vm"])
            before = parts.get(part.index)
            parts[part.index] = part if before is None else replace(part, vcpus=before.vcpus + part.vcpus)
        return list(parts.values())

    def stats_fds(self) -> Mapping[tuple[int, int | None], int]:
        if not self._fds:
            self.tell("stats_fds")
            for answer in self._answers("stats_fds"):
                keys = [(vm, vcpu) for vm, vcpu in answer["keys"]]
                self._fds.update(zip(keys, answer["fds"], strict=True))
        return self._fds

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def hang_up(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self._socket.close()

    def reap(self) -> None:
        try:
            self._process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _answers(self, command: str) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        try:
            while (answer := self._receive(deadline)).get("end") != command:
                if answer.get("answer") == command:
                    yield answer
        except TimeoutError as error:
            raise self._late() from error

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next packet. Events are recorded, failures raised. Raises TimeoutError at the deadline."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, PACKET, MAX_FDS)
        except ConnectionResetError as error:
            raise self._gone() from error
        if not data:
            raise self._gone()
        message: dict[str, Any] = json.loads(data)
        if "failed" in message:
            raise _rebuild_error(message["failed"])
        self._heard.add(message.get("event", ""))
        return {**message, "fds": fds}

    def _late(self) -> SourceError:
        return SourceError(f"lab process {self.pid} has not answered in time")

    def _gone(self) -> SourceError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return SourceError(f"lab process {self.pid} ended unexpectedly (status {self._process.returncode})")


def _rebuild_error(failed: Mapping[str, Any]) -> KvmscopeError:
    kind = _ERRORS.get(failed["slug"], SourceError)
    if issubclass(kind, SourceError):
        return kind(failed["reason"], remedy=failed["remedy"], path=failed["path"], errno=failed["errno"])
    return UsageError(failed["reason"])


if __name__ == "__main__":
    from .child import main

    main(sys.argv[1:])
