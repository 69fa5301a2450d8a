"""Addresses to listen at, and the sockets for them. Source: exporter-toolkit, ``--web.listen-address``."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from ...errors import Unavailable, UsageError

DEFAULT_ADDRESS: Final = "127.0.0.1:9796"

_BACKLOG: Final = 256
_FIRST_PASSED_FD: Final = 3


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host and a port of TCP. ``host`` "": every address of this host."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this host can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> ListenAddress:
    """``127.0.0.1:9796``, ``[::1]:9796``, or ``:9796`` for every address. Raises UsageError."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]*)\]|([^\[\]:]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise UsageError(f"{text!r} is not an address such as 127.0.0.1:9796, [::1]:9796 or :9796")
    return ListenAddress(match[1] or match[2] or "", int(match[3]))


def open_sockets(addresses: Sequence[ListenAddress]) -> list[socket.socket]:
    """A listening socket for each address. Raises Unavailable for one that cannot be had."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(_open(address)) for address in addresses]
        opened.pop_all()
    return sockets


def systemd_sockets() -> list[socket.socket]:
    """The sockets that systemd has opened for this process. Raises UsageError if it has not.

    Source: sd_listen_fds(3).
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not re.fullmatch(r"[1-9][0-9]{0,3}", count):
        raise UsageError("--web.systemd-socket: systemd has passed no sockets to this process")
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    opened = [socket.socket(fileno=fd) for fd in range(_FIRST_PASSED_FD, _FIRST_PASSED_FD + int(count))]
    for each in opened:
        each.set_inheritable(False)
    return opened


def _open(address: ListenAddress) -> socket.socket:
    try:
        if not address.host and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise Unavailable(
            f"cannot listen at {address}: {reason}", remedy="another --web.listen-address", errno=error.errno
        ) from error
