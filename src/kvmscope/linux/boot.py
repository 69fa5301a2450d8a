"""The identity of this boot. Source: drivers/char/random.c for boot_id."""

from __future__ import annotations

from functools import cache

from ..errors import Unavailable
from .files import PROC
from .procfs import read_file

_BOOT_ID = "sys/kernel/random/boot_id"
_DIGITS = 32


def parse_id(text: bytes) -> str:
    """The hexadecimal digits of an id file, without dashes; empty if these bytes are not one."""
    digits = text.decode("ascii", "replace").strip().replace("-", "")
    return digits if len(digits) == _DIGITS and all(digit in "0123456789abcdef" for digit in digits) else ""


def read_boot_id(root: str = PROC) -> str:
    """The id of this boot as hexadecimal digits; empty if the kernel does not give it."""
    return parse_id(read_file(f"{root}/{_BOOT_ID}") or b"")


@cache
def boot_key() -> bytes:
    """The 16 bytes from which ids of VMs of this boot are made. They are not secret. Raises Unavailable."""
    digits = read_boot_id()
    if not digits:
        path = f"{PROC}/{_BOOT_ID}"
        raise Unavailable(f"{path} has no boot id, which ids of VMs are made of", path=path)
    return bytes.fromhex(digits)
