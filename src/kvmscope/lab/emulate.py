"""One boot of a kernel under QEMU's software emulation: files in, a complete answer or an error out.

It knows QEMU and the answer's format; ``kernels`` chooses what to boot, and ``initramfs`` has the scripts inside.
Rule: only an answer that ends with an exit code counts. A panic, an oops, a hang, a QEMU that dies: each is
``KernelFailed`` with the end of the console.
Options of the machine, and the reason for each (QEMU 7.2): one vCPU on one thread, since two crashed;
``clearcpuid=cx16``, since QEMU returns garbage flags from the allocator's cmpxchg16b and 6.12 panicked in 3 of 4 boots
(user space keeps the instruction, as numpy requires it); ``pauth-impdef``, since the real algorithm of pointer
authentication makes an arm64 run six times longer; ``mitigations=off``, which saves an eighth of the time.
Source: qemu(1) 7.2; Documentation/admin-guide/kernel-parameters.txt.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from ..console.temporary import OwnedDirectory
from ..errors import SourceError, Unavailable
from .initramfs import RESULT_FOLDER, RESULT_PORT, STDERR_PORT, STDOUT_PORT

_TAIL_LINES = 30
_PORTS = {"stdout": STDOUT_PORT, "stderr": STDERR_PORT, "result": RESULT_PORT}
_QEMU = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
_MACHINE = {"amd64": "q35", "arm64": "virt,virtualization=on,gic-version=3"}
_CPU = {"amd64": "max", "arm64": "max,pauth-impdef=on"}
_EVEN_CLOCK = ("-icount", "shift=3,sleep=off")
_APPEND = {"amd64": "console=ttyS0 clearcpuid=cx16", "arm64": "console=ttyAMA0"}
_DEBIAN_PACKAGE = {"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"}


class KernelFailed(SourceError):
    """An emulated kernel gave no complete answer; ``console``, ``stdout`` and ``stderr`` have the output until then."""

    def __init__(self, reason: str, *, console: str = "", stdout: str = "", stderr: str = "") -> None:
        tail = "\n".join(console.splitlines()[-_TAIL_LINES:])
        super().__init__(f"{reason}; the end of its console:\n{tail}" if tail else f"{reason}; its console is empty")
        self.console = console
        self.stdout = stdout
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Boot:
    """A kernel to boot, and the size of the machine.

    ``even_clock``: the guest's clock counts executed instructions, 8 ns each, and skips sleeps, so the events in a
    guest's second do not depend on the load of this machine.
    """

    arch: str
    kernel: Path
    initramfs: bytes
    disk: Path
    append: str
    memory_mb: int
    timeout_s: float
    even_clock: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a command inside an emulated kernel."""

    exit_code: int
    """As in a shell: 128 plus the signal's number if a signal killed the command."""
    stdout: str
    stderr: str
    files: dict[str, bytes]
    """The requested files that exist, by absolute path in the guest; a directory yields every file below it."""
    console: str
    kernel_log: str
    release: str
    ready_s: float
    """Time from the kernel's start to the command's, by the guest's clock."""
    command_s: float
    total_s: float
    """Time from QEMU's start to its end, by this machine's clock."""


def qemu_argv(boot: Boot, scratch: Path) -> list[str]:
    """QEMU's command line; the guest's output goes to files in ``scratch``."""
    ports = [
        word
        for name, number in _PORTS.items()
        for word in (
            *("-chardev", f"file,id={name},path={scratch / name}"),
            *("-device", f"virtserialport,chardev={name},nr={number},name={name}"),
        )
    ]
    return [
        *(_QEMU[boot.arch], "-accel", "tcg,thread=single", "-machine", _MACHINE[boot.arch], "-cpu", _CPU[boot.arch]),
        *(_EVEN_CLOCK if boot.even_clock else ()),
        *("-m", str(boot.memory_mb), "-smp", "1", "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-serial", f"file:{scratch / 'console'}", "-device", "virtio-serial-pci", *ports),
        *("-drive", f"file={boot.disk},format=raw,if=none,id=disk,snapshot=on"),
        *("-device", "nvme,drive=disk,serial=userland"),
        *("-kernel", str(boot.kernel), "-initrd", str(scratch / "initramfs")),
        *("-append", f"{_APPEND[boot.arch]} quiet panic=-1 oops=panic mitigations=off {boot.append}".strip()),
    ]


def run_boot(boot: Boot) -> Result:
    """Boot, wait for the end, and return the answer.

    Raises Unavailable if there is no QEMU for the architecture, KernelFailed if there is no complete answer.
    """
    if shutil.which(_QEMU[boot.arch]) is None:
        raise Unavailable(f"{_QEMU[boot.arch]} is not on this machine", remedy=f"install {_DEBIAN_PACKAGE[boot.arch]}")
    with OwnedDirectory("kernel") as folder:
        scratch = folder.path
        (scratch / "initramfs").write_bytes(boot.initramfs)
        started = time.monotonic()
        trouble = _run_qemu(qemu_argv(boot, scratch), timeout_s=boot.timeout_s)
        return read_answer(scratch, trouble=trouble, total_s=time.monotonic() - started)


def _run_qemu(argv: list[str], *, timeout_s: float) -> str | None:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the emulated kernel did not end within {timeout_s:g} s"
    if done.returncode:
        return f"QEMU ended with {done.returncode}: {done.stderr.strip()}"
    return None


def read_answer(scratch: Path, *, trouble: str | None, total_s: float) -> Result:
    """The answer in the files of a finished boot. Raises KernelFailed if it is incomplete or ``trouble`` is given."""
    console, stdout, stderr = (_read_text(scratch / name) for name in ("console", "stdout", "stderr"))
    if trouble is None and "Kernel panic" in console:
        trouble = "the emulated kernel panicked"
    files = _read_archive(scratch / "result")
    own = {name: files.pop(f"/{RESULT_FOLDER}/{name}", None) for name in _REPORT}
    exit_code, release, log, ready, ended = own.values()
    if trouble is None and None in own.values():
        trouble = "the emulated kernel ended before its command did"
    if trouble is not None or exit_code is None or release is None or log is None or ready is None or ended is None:
        raise KernelFailed(trouble or "no answer", console=console, stdout=stdout, stderr=stderr)
    return Result(
        exit_code=int(exit_code),
        stdout=stdout,
        stderr=stderr,
        files=files,
        console=console,
        kernel_log=log.decode(errors="replace"),
        release=release.decode().strip(),
        ready_s=float(ready),
        command_s=float(ended) - float(ready),
        total_s=total_s,
    )


_REPORT = ("exit_code", "release", "kernel_log", "ready_s", "ended_s")


def _read_text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace").replace("\r\n", "\n") if path.exists() else ""


def _read_archive(path: Path) -> dict[str, bytes]:
    data = path.read_bytes() if path.exists() else b""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    files["/" + member.name.lstrip("/")] = content.read()
    except tarfile.TarError:
        files.pop(f"/{RESULT_FOLDER}/exit_code", None)
    return files
