"""Scenes: what judging, views and recordings read, and how a scene becomes bytes and comes back."""

from __future__ import annotations

from .encoding import decode, encode
from .moment import Scene, VmIdentity

__all__ = ["Scene", "VmIdentity", "decode", "encode"]
