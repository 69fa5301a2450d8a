"""Which host and which boot this is, in a form that can be shown and stored.

Rule: the host's id is derived from /etc/machine-id and does not give it away, as machine-id(5) asks of those who pass
it on. Where there is no machine id (a container, an image that has not booted) the boot alone identifies the host.
Source: machine-id(5), sd_id128_get_machine_app_specific(3); drivers/char/random.c for boot_id.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from ..linux.files import PROC
from ..linux.procfs import read_file
from ..sample import Origin

ETC: Final = "/etc"

_APPLICATION: Final = b"kvmscope origin 1"


def read_origin(*, proc_root: str = PROC, etc_root: str = ETC) -> Origin | None:
    """This host and boot; None if the kernel does not give a boot id."""
    boot = _read_id(f"{proc_root}/sys/kernel/random/boot_id")
    if not boot:
        return None
    machine = _read_id(f"{etc_root}/machine-id")
    host = hmac.new(machine.encode(), _APPLICATION, hashlib.sha256).hexdigest()[:32] if machine else boot
    return Origin(host, boot)


def _read_id(path: str) -> str:
    """The hexadecimal digits of an id file, without dashes; empty if it is missing or is not such a file."""
    text = (read_file(path) or b"").decode("ascii", "replace").strip().replace("-", "")
    return text if len(text) == 32 and all(digit in "0123456789abcdef" for digit in text) else ""
