"""The few calls of libbpf that kvmscope needs, through ctypes. Not a general binding.

libbpf relocates the program for the running kernel by BTF (CO-RE), which is not reimplemented here. The library itself
is opened in ``linux.libbpf``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ...errors import PermissionNeeded, SourceError, Unavailable
from ...linux import btf, libc, procfs
from ...linux.capabilities import Capability, effective_capabilities
from ...linux.kernel import LOCKDOWN_FILE, read_lockdown
from ...linux.libbpf import library, log, quietly
from ...linux.namespaces import is_in_user_namespace, is_sys_hidden


class _MapInfo(ctypes.Structure):
    """``union bpf_iter_link_info`` in its ``map`` form."""

    _fields_ = (("map_fd", ctypes.c_uint32), ("rest", ctypes.c_uint32 * 3))


class _OpenOptions(ctypes.Structure):
    """``struct bpf_object_open_opts``, up to the member that is used."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("unused", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
    )


class _IterOptions(ctypes.Structure):
    """``struct bpf_iter_attach_opts``."""

    _fields_ = (("sz", ctypes.c_size_t), ("link_info", ctypes.c_void_p), ("link_info_len", ctypes.c_uint32))


_RUN_TIME = 0  # BPF_STATS_RUN_TIME


class BpfObject:
    """One object file, opened; configure it, then ``load``. Closing it unloads whatever is not pinned."""

    def __init__(self, data: bytes, *, types: str | None = None) -> None:
        """``types``: path of the BTF to relocate the program for, read by ``load``; None: libbpf finds it."""
        self._lib = library()
        self._data = data  # libbpf keeps pointers into it
        options = _OpenOptions(sz=ctypes.sizeof(_OpenOptions), btf_custom_path=types.encode() if types else None)
        pointer = self._lib.bpf_object__open_mem(data, ctypes.c_size_t(len(data)), ctypes.byref(options))
        if not pointer:
            raise Unavailable("libbpf could not open the BPF object", errno=ctypes.get_errno())
        self._object = ctypes.c_void_p(pointer)
        self._links: list[ctypes.c_void_p] = []

    def close(self) -> None:
        for link in self._links:
            self._lib.bpf_link__destroy(link)
        self._links.clear()
        if self._object:
            self._lib.bpf_object__close(self._object)
            self._object = ctypes.c_void_p()

    def _map(self, name: str) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._lib.bpf_object__find_map_by_name(self._object, name.encode()))

    def resize_map(self, name: str, *, value_size: int | None, max_entries: int) -> None:
        found = self._map(name)
        if value_size is not None:
            self._lib.bpf_map__set_value_size(found, ctypes.c_uint32(value_size))
        self._lib.bpf_map__set_max_entries(found, ctypes.c_uint32(max_entries))

    def set_constants(self, data: bytes) -> None:
        """The ``const volatile`` variables, in the layout of the object's .rodata."""
        size = ctypes.c_size_t()
        place = self._lib.bpf_map__initial_value(self._map(".rodata"), ctypes.byref(size))
        if size.value != len(data):
            raise Unavailable(f"the BPF object has {size.value} bytes of constants, not {len(data)}: rebuild it")
        ctypes.memmove(place, data, len(data))

    def choose_program(self, name: str, *, function: str | None) -> None:
        """Load an optional program too; ``function`` is where it attaches, None if the object says so itself."""
        found = self._program(name)
        self._lib.bpf_program__set_autoload(found, ctypes.c_bool(True))
        if function is not None:
            self._lib.bpf_program__set_attach_target(found, 0, function.encode())

    def load(self) -> None:
        """Fit to this kernel, verify and load. Raises PermissionNeeded or Unavailable with the kernel's reason."""
        log.clear()
        result = self._lib.bpf_object__load(self._object)
        if result:
            raise _explain(-result, list(log))

    def program_fd(self, name: str) -> int:
        return int(self._lib.bpf_program__fd(self._program(name)))

    def map_fd(self, name: str) -> int:
        return int(self._lib.bpf_map__fd(self._map(name)))

    def attach_map_iterator(self, program: str, map_name: str) -> int:
        """A link that runs ``program`` for each element of a map when its file is read; returns the link's fd."""
        info = _MapInfo(self.map_fd(map_name))
        place = ctypes.cast(ctypes.byref(info), ctypes.c_void_p)
        options = _IterOptions(ctypes.sizeof(_IterOptions), place, ctypes.sizeof(info))
        return self._keep(self._lib.bpf_program__attach_iter(self._program(program), ctypes.byref(options)))

    def attach(self, program: str) -> int:
        """A link from a program to its function or tracepoint; returns the link's fd."""
        return self._keep(self._lib.bpf_program__attach(self._program(program)))

    def _keep(self, link: int | None) -> int:
        if not link:
            raise _explain(ctypes.get_errno(), list(log))
        self._links.append(ctypes.c_void_p(link))
        return int(self._lib.bpf_link__fd(self._links[-1]))

    def _program(self, name: str) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._lib.bpf_object__find_program_by_name(self._object, name.encode()))


@contextmanager
def run_statistics() -> Iterator[None]:
    """The kernel measures every BPF program while the block runs; each run is then about 20 ns slower."""
    fd = int(library().bpf_enable_stats(_RUN_TIME))
    _check(min(fd, 0), "BPF programs cannot be measured")
    try:
        yield
    finally:
        os.close(fd)


def ran(program_fd: int) -> tuple[int, int]:
    """The number of measured runs of a program, and the nanoseconds that they took."""
    fields = procfs.read_fdinfo(program_fd)
    return int(fields["run_cnt"]), int(fields["run_time_ns"])


def open_iterator(link_fd: int) -> int:
    """A file whose first read runs the program once."""
    fd = int(library().bpf_iter_create(link_fd))
    if fd < 0:
        raise Unavailable("the iterator could not be opened", errno=-fd)
    return fd


def pin(fd: int, path: Path) -> None:
    """Pin a map or link in a BPF file system, so it outlives this process."""
    result = library().bpf_obj_pin(fd, os.fsencode(path))
    if result:
        raise SourceError(f"{path} could not be pinned: {os.strerror(-result)}", path=str(path), errno=-result)


def freeze(fd: int) -> None:
    """Make a map read-only for processes, by fd and by mapping; only programs can still write to it."""
    _check(library().bpf_map_freeze(fd), "a BPF map could not be frozen")


def _check(result: int, what: str) -> None:
    if result:
        raise SourceError(f"{what}: {os.strerror(-result)}", errno=-result)


def create_array(name: str, data: bytes) -> int:
    """An array of one element, filled and frozen; the fd may be closed once it is pinned."""
    lib, key = library(), ctypes.c_uint32(0)
    fd = int(lib.bpf_map_create(_MAP_TYPE_ARRAY, name.encode(), ctypes.sizeof(key), len(data), 1, None))
    if fd < 0:
        raise _explain(-fd, [])
    try:
        _check(
            lib.bpf_map_update_elem(fd, ctypes.byref(key), data, ctypes.c_uint64(0)), "a BPF map could not be written"
        )
        freeze(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_array(path: Path, size: int) -> bytes:
    """The one element of a pinned array, of ``size`` bytes. Raises OSError."""
    fd = open_pinned_map(path)
    try:
        key, value = ctypes.c_uint32(0), ctypes.create_string_buffer(size)
        result = library().bpf_map_lookup_elem(fd, ctypes.byref(key), value)
        if result:
            raise OSError(-result, os.strerror(-result), str(path))
        return value.raw
    finally:
        os.close(fd)


def write_array(path: Path, data: bytes) -> None:
    """Set the one element of a pinned array, which must not be frozen. Raises OSError."""
    fd = open_pinned_map(path)
    try:
        key = ctypes.c_uint32(0)
        result = library().bpf_map_update_elem(fd, ctypes.byref(key), data, ctypes.c_uint64(0))
        if result:
            raise OSError(-result, os.strerror(-result), str(path))
    finally:
        os.close(fd)


_MAP_TYPE_ARRAY = 2
_BPF_OBJ_GET = 7
_SYSCALL_BPF: Mapping[str, int] = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}


class _ObjAttributes(ctypes.Structure):
    """``union bpf_attr`` for BPF_OBJ_GET."""

    _fields_ = (("pathname", ctypes.c_uint64), ("bpf_fd", ctypes.c_uint32), ("file_flags", ctypes.c_uint32))


def open_pinned_map(path: Path) -> int:
    """An fd of a pinned map, to be mapped read-only; needs only permission for the file, and no libbpf. Raises OSError.

    It is opened for writing too, though frozen: bpf_map_mmap() refuses files opened read-only.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    attributes = _ObjAttributes(ctypes.addressof(name), 0, 0)
    number = _SYSCALL_BPF.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) on {platform.machine()} is not known here")
    try:
        return libc.syscall(number, _BPF_OBJ_GET, attributes, ctypes.sizeof(attributes))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def load_object(
    data: bytes,
    *,
    maps: Mapping[str, tuple[int | None, int]],
    constants: bytes,
    programs: Mapping[str, str | None] | None = None,
) -> BpfObject:
    """Open, configure and load an object. The caller must close it.

    ``maps``: (value_size or None, max_entries) by name; ``programs``: the optional programs to load, as for
    ``BpfObject.choose_program``. A refused load is repeated to get the log with the reason.
    """

    def load() -> BpfObject:
        return _load(BpfObject(data, types=types), maps, constants, programs or {})

    with _types() as types:
        try:
            with quietly():
                return load()
        except Unavailable:
            return load()


@contextmanager
def _types() -> Iterator[str | None]:
    """The BTF files to try: for users who may not read the BTF of modules, a file; otherwise None (libbpf finds it)."""
    if Capability.SYS_ADMIN in effective_capabilities() or not btf.has_btf():
        yield None
        return
    with btf.open_all_types("kvm*") as path:
        yield path


def _load(
    bpf: BpfObject,
    maps: Mapping[str, tuple[int | None, int]],
    constants: bytes,
    programs: Mapping[str, str | None],
) -> BpfObject:
    try:
        for name, (value_size, max_entries) in maps.items():
            bpf.resize_map(name, value_size=value_size, max_entries=max_entries)
        bpf.set_constants(constants)
        for name, function in programs.items():
            bpf.choose_program(name, function=function)
        bpf.load()
    except BaseException:
        bpf.close()
        raise
    return bpf


def _explain(code: int, log: list[str]) -> SourceError:
    said = next(filter(None, (_verdict(log), os.strerror(code))))
    if code in (errno.EMFILE, errno.ENFILE):
        return Unavailable(os.strerror(code), remedy="a higher limit of open files (ulimit -n)", errno=code)
    if code in (errno.EPERM, errno.EACCES) and not _is_privileged():
        return _missing_capabilities(code)
    if Capability.SYS_ADMIN not in effective_capabilities() and any(_OF_MODULE in line for line in log):
        return PermissionNeeded(
            "hooks in kernel modules need CAP_SYS_ADMIN, without which the BTF of modules cannot be opened",
            remedy=_who_may("have root run `kvmscope attach --count GROUP` once", "--cap-add SYS_ADMIN"),
            errno=code,
        )
    if read_lockdown().value == "confidentiality":
        return Unavailable(
            "the kernel is locked down for confidentiality, which keeps BPF from reading kernel memory",
            remedy="lockdown=integrity is enough for kvmscope; else use the statsfd or qmp source",
            path=f"/sys/{LOCKDOWN_FILE}",
            errno=code,
        )
    if not btf.has_btf():
        return _without_btf(code)
    return Unavailable(f"the kernel rejected the BPF program: {said}", errno=code)


def _without_btf(code: int) -> Unavailable:
    if is_sys_hidden():
        return Unavailable(
            "/sys is hidden here, and with it the kernel's BTF, which has the layout of its structures",
            remedy="mount -t sysfs sysfs /sys, or give the container the host's /sys",
            path=str(btf.VMLINUX),
            errno=code,
        )
    return Unavailable(
        "this kernel has no BTF, which has the layout of its structures",
        remedy="a kernel with CONFIG_DEBUG_INFO_BTF=y",
        path=str(btf.VMLINUX),
        errno=code,
    )


def _missing_capabilities(code: int) -> PermissionNeeded:
    reason = "loading a BPF program needs CAP_BPF and CAP_PERFMON"
    if is_in_user_namespace():
        reason += " in the initial user namespace, and this process is in another"
    remedy = _who_may("have root run `kvmscope attach` once", "--cap-add BPF --cap-add PERFMON")
    return PermissionNeeded(reason, remedy=remedy, errno=code)


def _who_may(otherwise: str, options: str) -> str:
    """The remedy for missing privileges; root without a capability is in a container."""
    if os.geteuid() == 0:
        return f"give the container the capabilities (docker run {options}), or on the host {otherwise}"
    return f"run as root, or {otherwise}"


def _verdict(log: list[str]) -> str | None:
    """The line of libbpf's log with the reason: the last one before the verifier's statistics."""
    for line, following in zip(reversed(log[:-1]), reversed(log[1:]), strict=True):
        if following.startswith("processed ") or "failed to resolve" in line:
            return line.strip()
    return next((line for line in log if line), None)


_OF_MODULE = "BTF objects"
"""In the message of libbpf 1.0 to 1.1 if it may not list the BTF of modules ("failed to iterate BTF objects")."""


def _is_privileged() -> bool:
    if is_in_user_namespace():
        return False
    held = effective_capabilities()
    return Capability.SYS_ADMIN in held or {Capability.BPF, Capability.PERFMON} <= held
