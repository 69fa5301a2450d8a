"""Scenes: the input of rules, views and recordings, and their encoding as bytes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .moment import Scene, VmIdentity

if TYPE_CHECKING:
    from .encoding import decode, encode

__all__ = ["Scene", "VmIdentity", "decode", "encode"]


def __getattr__(name: str) -> Any:
    # Most commands encode nothing, and the codec takes 15 ms to load.
    if name not in ("decode", "encode"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".encoding", __name__), name)
