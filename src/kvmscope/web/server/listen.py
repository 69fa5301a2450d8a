"""Addresses to listen on, and their sockets. Source: exporter-toolkit, ``--web.listen-address``."""

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

BACKLOG: Final = 256
_ANY_VSOCK_PORT: Final = 2**32 - 1
_FIRST_PASSED_FD: Final = 3


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host and a TCP port. If ``host`` is "", every address of this host."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this host can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def open_socket(self) -> socket.socket:
        """A listening socket. Raises OSError."""
        if not self.host and socket.has_dualstack_ipv6():
            return socket.create_server(("", self.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server((self.host, self.port), family=family, backlog=BACKLOG)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """A port of VM sockets, reachable by the guests of this host and, if this is a guest, by its host; vsock(7)."""

    port: int
    is_loopback: Final = False

    def open_socket(self) -> socket.socket:
        """A listening socket. Raises OSError."""
        opened = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            opened.bind((socket.VMADDR_CID_ANY, self.port))
            opened.listen(BACKLOG)
        except OSError:
            opened.close()
            raise
        return opened

    def __str__(self) -> str:
        return f"vsock://:{self.port}"


def parse_address(text: str) -> ListenAddress | VsockAddress:
    """``127.0.0.1:9796``, ``[::1]:9796``, ``:9796`` for every address, or ``vsock://:9796``. Raises UsageError."""
    vsock = re.fullmatch(r"vsock://:([0-9]{1,10})", text)
    if vsock is not None and int(vsock[1]) < _ANY_VSOCK_PORT:
        return VsockAddress(int(vsock[1]))
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]*(?:%[\w.-]+)?)\]|([^\[\]:]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise UsageError(f"{text!r} is not an address such as 127.0.0.1:9796, [::1]:9796, :9796 or vsock://:9796")
    return ListenAddress(match[1] or match[2] or "", int(match[3]))


def open_sockets(addresses: Sequence[ListenAddress | VsockAddress]) -> list[socket.socket]:
    """A listening socket for each address. Raises Unavailable if one cannot be opened."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(_open(address)) for address in addresses]
        opened.pop_all()
    return sockets


def systemd_sockets() -> list[socket.socket]:
    """The sockets that systemd has opened for this process. Raises UsageError if there are none.

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


def socket_url(scheme: str, opened: socket.socket) -> str:
    """The URL at which a socket listens."""
    name = opened.getsockname()
    if opened.family == socket.AF_VSOCK:
        return str(VsockAddress(name[1]))
    return f"{scheme}://{ListenAddress(str(name[0]), name[1]) if isinstance(name, tuple) else name}/"


def _open(address: ListenAddress | VsockAddress) -> socket.socket:
    try:
        return address.open_socket()
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise Unavailable(
            f"cannot listen at {address}: {reason}", remedy="another --web.listen-address", errno=error.errno
        ) from error
