"""The stock kernels that the lab can boot, as ``kernels.toml`` lists them.

It has names and the locations of packages; ``kernel_packages`` downloads them, and ``emulate`` boots kernels.
Rule: an entry of the file with a missing or unknown key is an error.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UsageError

_FILE = Path(__file__).with_name("kernels.toml")


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One kernel: its name here, and the location of its newest package."""

    name: str
    arch: str
    """Debian's name of the architecture: ``amd64`` or ``arm64``."""
    series: str
    suites: tuple[str, ...]
    package: str
    modules: tuple[str, ...]

    @property
    def has_apicv(self) -> bool:
        """Whether its KVM can have AVIC, which arm64 does not."""
        return self.arch == "amd64"


@dataclass(frozen=True, slots=True)
class UserlandSpec:
    """The software of a guest besides its kernel."""

    python: str
    suites: tuple[str, ...]
    packages: tuple[str, ...]
    wheels: tuple[str, ...]


@cache
def load_catalog() -> tuple[dict[str, KernelSpec], UserlandSpec]:
    """The kernels by name, in the order of the file, and the userland."""
    document = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    kernels = {name: KernelSpec(name=name, **_frozen(entry)) for name, entry in document["kernels"].items()}
    return kernels, UserlandSpec(**_frozen(document["userland"]))


def kernel_names() -> tuple[str, ...]:
    """Every name that ``find_kernel`` knows."""
    return tuple(load_catalog()[0])


def find_kernel(name: str) -> KernelSpec:
    """The kernel of that name. Raises UsageError, with the known names, if there is none."""
    kernels = load_catalog()[0]
    if name not in kernels:
        raise UsageError(f"no kernel called {name!r}; there are {', '.join(kernels)}")
    return kernels[name]


def _frozen(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
