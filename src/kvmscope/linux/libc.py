"""Calls of the C library that Python does not provide. Each raises OSError with the kernel's error.

Source: syscall(2), openat2(2), mmap(2), mount(2), prctl(2), mlockall(2), pthreads(7).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final, NoReturn

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NAME, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = (
    1,
    8,
    15,
    23,
    24,
    38,
)
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_CAPABILITY_VERSION_3 = 0x20080522
_THREAD_ATTRIBUTES_BYTES: Final = 256
"""At least the size of a pthread_attr_t, which is 56 to 64."""


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | ctypes.Structure) -> int:
    """A system call by its number on this architecture; structures and buffers are passed by their address."""
    passed = [
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.byref(argument) for argument in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *passed))
    if result == -1:
        _fail("syscall")
    return result


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_IN_ROOT: Final = 0x10
_OPENAT2: Final = 437  # the same on every architecture


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """Open a file below a directory, with rules for how its path is resolved (Linux 5.6 and later); the fd."""
    how = _OpenHow(flags, 0, resolve)
    name = ctypes.create_string_buffer(os.fsencode(path))
    return syscall(_OPENAT2, directory, name, how, ctypes.sizeof(how))


def raise_thread_stacks(least: int) -> None:
    """Set the minimum stack size in bytes of threads started from now on, including those of C libraries. The default
    is `ulimit -s` at the start of the process. Raises OSError; does nothing if the C library does not support it.

    Source: pthread_setattr_default_np(3), pthread_create(3).
    """
    attributes = ctypes.create_string_buffer(_THREAD_ATTRIBUTES_BYTES)
    size = ctypes.c_size_t()
    try:
        get, put = _libc.pthread_getattr_default_np, _libc.pthread_setattr_default_np
    except AttributeError:
        return
    _check_number(get(attributes))
    _check_number(_libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)))
    if size.value < least:
        _check_number(_libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(least)))
        _check_number(put(attributes))


def _check_number(error: int) -> None:
    """Raise OSError for an error number returned by a pthread function."""
    if error:
        raise OSError(error, os.strerror(error))


def map_for_reading(fd: int, size: int) -> int:
    """Map a file, shared and read-only; returns the address."""
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address == _MAP_FAILED:
        _fail("mmap")
    return int(address)


def unmap(address: int, size: int) -> None:
    _libc.munmap(address, size)


def copy_from(address: int, size: int) -> bytes:
    """Bytes of this process's memory; the caller must ensure that they are mapped."""
    return ctypes.string_at(address, size)


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()):
        _fail(target)


def unmount(target: str, flags: int) -> None:
    if _libc.umount2(os.fsencode(target), flags):
        _fail(target)


def lock_memory() -> None:
    """Lock all present and future pages of this process in memory."""
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        _fail("mlockall")


def set_thread_name(name: str) -> None:
    """Name the calling thread; the kernel keeps 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def signal_at_parents_end(signal: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0)


def drop_bounding_set() -> None:
    """Drop every capability from the bounding set of the calling thread and its later children."""
    capability = 0
    while _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            _fail("prctl")
        capability += 1


def keep_permitted_capabilities() -> None:
    """Keep the permitted capabilities of the calling thread when it changes its user id."""
    if _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0):
        _fail("prctl")


def set_capabilities(mask: int) -> None:
    """Set the capabilities of the calling thread to exactly these, within its permitted ones. Source: capset(2)."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    # Effective, permitted, inheritable: for the lower 32 capabilities, then for the upper ones.
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if _libc.capset(head, sets):
        _fail("capset")


def forbid_new_privileges() -> None:
    """Programs that the calling thread or its children start get no privileges from their files."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        _fail("prctl")


def _fail(what: str) -> NoReturn:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), what)
