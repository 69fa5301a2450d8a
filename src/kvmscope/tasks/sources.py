"""Checks which sources work on this host: each is opened and read once."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable

from ..collect import SOURCES, Host, open_host
from ..errors import KvmscopeError, SourceError
from ..host.machine import read_machine
from ..view.check import CheckedSource, CheckView, checked_host, failed_source, opened_source

_REGISTERS = "apic"


def check_host(opener: Callable[[str], Host]) -> CheckView:
    """The facts that decide which sources work here, and the result of trying each. ``opener`` opens a source."""
    sources = tuple(_try(opener, name) for name in SOURCES)
    host = checked_host(read_machine(), user=_user(), is_root=os.geteuid() == 0)
    return CheckView(host=host, sources=sources)


def open_with_registers(source: str) -> Host:
    """Open this host with local APICs too, if ``source`` can read them: they show some conditions of APICv.

    A pinned iterator reads the registers; an iterator loaded here does so on request; other sources have none.
    """
    if source == "bpf":
        return open_host(source, groups=(_REGISTERS,))
    if source != "auto":
        return open_host(source)
    try:
        return open_host("pinned")
    except SourceError as error:
        pinned = error
    try:
        host = open_host("bpf", groups=(_REGISTERS,))
    except SourceError:
        return open_host("auto")
    host.why_not = {"pinned": pinned}
    return host


def _try(opener: Callable[[str], Host], name: str) -> CheckedSource:
    try:
        with opener(name) as host:
            sample = host.read()
    except KvmscopeError as error:
        return failed_source(name, error)
    return opened_source(name, sample)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.geteuid()}"
