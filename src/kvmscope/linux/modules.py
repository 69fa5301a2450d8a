"""Kernel modules and their parameters, from /sys/module.

Source: Documentation/ABI/testing/sysfs-module (``initstate`` exists only for loaded modules), kernel/module/main.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from .facts import Fact, KernelModule
from .files import SYS, read_line, reason_of


def read_module(name: str, *, sys_root: str = SYS) -> Fact[KernelModule]:
    """One module that is loaded or built in.

    A built-in module without parameters is not in /sys/module, so it is reported as absent.
    """
    path = Path(sys_root, "module", name)
    try:
        is_there = path.is_dir()
        is_loaded = (path / "initstate").exists()
    except OSError as error:
        return Fact.unknown(reason_of(error))
    if not is_there:
        return Fact.unknown(f"no {path}: {name} is neither loaded nor built in with parameters")
    return Fact(KernelModule(name, not is_loaded, _read_parameters(path / "parameters")))


def module_names(pattern: str, *, sys_root: str = SYS) -> tuple[str, ...]:
    """The modules whose names match a shell pattern, in order; none if they cannot be listed."""
    return tuple(sorted(path.name for path in Path(sys_root, "module").glob(pattern)))


def module_inode(name: str, *, sys_root: str = SYS) -> int | None:
    """An inode number that changes when the module is reloaded; None if it is not loaded."""
    try:
        return Path(sys_root, "module", name).stat().st_ino
    except OSError:
        return None


def _read_parameters(directory: Path) -> Mapping[str, Fact[str]]:
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError:
        names = []
    return MappingProxyType({name: read_line(str(directory / name)) for name in names})
