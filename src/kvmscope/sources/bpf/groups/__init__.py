"""Groups that count events: off until asked for, one BPF object each, and gone when closed.

The catalogue lists them (catalog/groups.toml). Each has two files here, called like it: ``NAME.bpf.c`` counts, and
``plan`` of ``NAME.py`` says what to load on a kernel and how what is counted is described. They share ``common.h`` and
``base``; ``loaded`` loads a group for this process, ``pinned`` leaves it for others; ``slots`` joins what was
counted to the VMs and vCPUs of a sample.

Group ``apicv`` is not one of these: it counts inside of the iterator's own object.
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
    """Every group, with what makes its plan for a kernel; that raises Unavailable where there is nothing to count."""
    return {name: partial(_plan, name) for name, group in load_groups().items() if group.home is GroupHome.OBJECT}
