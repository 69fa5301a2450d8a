"""The identity of this host and boot, in a form that can be shown and stored.

Rule: the host's id is derived from /etc/machine-id without revealing it, as machine-id(5) requires. Without a machine
id (in a container, or an image that has not booted) the boot alone identifies the host.
Source: machine-id(5), sd_id128_get_machine_app_specific(3).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from ..linux.boot import parse_id, read_boot_id
from ..linux.files import PROC
from ..linux.procfs import read_file
from ..sample import Origin

ETC: Final = "/etc"

_APPLICATION: Final = b"kvmscope origin 1"


def read_origin(*, proc_root: str = PROC, etc_root: str = ETC) -> Origin | None:
    """This host and boot; None if the kernel does not give a boot id."""
    boot = read_boot_id(proc_root)
    if not boot:
        return None
    machine = parse_id(read_file(f"{etc_root}/machine-id") or b"")
    host = hmac.new(machine.encode(), _APPLICATION, hashlib.sha256).hexdigest()[:32] if machine else boot
    return Origin(host, boot)
