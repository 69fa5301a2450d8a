"""Opt-in groups that count events, one BPF object each, unloaded when closed.

The catalogue lists them (catalog/groups.toml). Each has two files here, named after it: ``NAME.bpf.c`` counts, and
``plan`` of ``NAME.py`` selects the programs to load on a kernel and describes the stats. They share ``common.h`` and
``base``; ``loaded`` loads a group for this process, ``pinned`` pins it for others; ``slots`` joins the counts to the
VMs and vCPUs of a sample.

Group ``apicv`` is not one of these: it is part of the iterator's own object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module

from ....catalog.groups import GroupHome, load_groups
from .base import Plan
from .kernel import KernelFacts


def _plan(name: str, kernel: KernelFacts) -> Plan:
    plan: Plan = import_module(f".{name}", __package__).plan(kernel)
    return plan


@cache
def plans_by_name() -> Mapping[str, Callable[[KernelFacts], Plan]]:
    """Every group, with the function that makes its plan for a kernel, or raises Unavailable if it cannot count."""
    return {name: partial(_plan, name) for name, group in load_groups().items() if group.home is GroupHome.OBJECT}
