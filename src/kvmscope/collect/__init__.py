"""Opens a host or a recording and yields its scenes: the only entry point for every command and library user.

Names are imported on first use: a source is opened while the other modules of a host are imported (see ``opening``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .host import SceneHost as SceneHost
    from .live import Host as Host
    from .opening import SOURCES as SOURCES
    from .opening import HostOpening as HostOpening
    from .opening import open_host as open_host
    from .recorded import GrowingRecording as GrowingRecording
    from .recorded import RecordedHost as RecordedHost
    from .recorded import open_recording as open_recording

_HOME = {
    "SceneHost": "host",
    "Host": "live",
    "SOURCES": "opening",
    "HostOpening": "opening",
    "open_host": "opening",
    "GrowingRecording": "recorded",
    "RecordedHost": "recorded",
    "open_recording": "recorded",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
