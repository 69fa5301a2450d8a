"""The command line: one file per command, loaded when it is used.

Commands write only their results to stdout; reasons for missing data go to stderr, and ``group`` turns errors into exit
codes. Nothing here does arithmetic on statistics.

The package itself loads nothing: the signals and streams of ``console`` must be in place before click is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .group import main as main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".group", __name__).main
