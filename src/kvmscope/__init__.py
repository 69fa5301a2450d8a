"""kvmscope: see inside KVM.

    with kvmscope.open_host() as host:
        sample = host.read()

Importing this package loads no third-party package; each name below brings what it needs when it is first used.

The body imports and calls nothing: it runs before the command line can handle signals (see ``__main__``), and Python
acts on a signal at calls.
"""

TYPE_CHECKING = False
"""Type checkers assume that it is true; ``typing.TYPE_CHECKING`` would need an import."""

if TYPE_CHECKING:
    from typing import Any

    from .analysis.window import Window as Window
    from .collect import Host as Host
    from .collect import open_host as open_host
    from .collect import open_recording as open_recording
    from .errors import CatalogError as CatalogError
    from .errors import FormatError as FormatError
    from .errors import KvmscopeError as KvmscopeError
    from .errors import PermissionNeeded as PermissionNeeded
    from .errors import RecordingError as RecordingError
    from .errors import SourceError as SourceError
    from .errors import Unavailable as Unavailable
    from .errors import UsageError as UsageError
    from .sample import Block as Block
    from .sample import Gap as Gap
    from .sample import Sample as Sample
    from .sample import VcpuId as VcpuId
    from .sample import VmId as VmId
    from .scene import Scene as Scene
    from .schema import Descriptor as Descriptor
    from .schema import Kind as Kind
    from .schema import Schema as Schema
    from .schema import Scope as Scope
    from .schema import Unit as Unit
    from .view.watch import HostView as HostView

_HOME = {
    "Window": "analysis.window",
    "Host": "collect",
    "open_host": "collect",
    "open_recording": "collect",
    "CatalogError": "errors",
    "FormatError": "errors",
    "KvmscopeError": "errors",
    "PermissionNeeded": "errors",
    "RecordingError": "errors",
    "SourceError": "errors",
    "Unavailable": "errors",
    "UsageError": "errors",
    "Block": "sample",
    "Gap": "sample",
    "Sample": "sample",
    "VcpuId": "sample",
    "VmId": "sample",
    "Descriptor": "schema",
    "Kind": "schema",
    "Schema": "schema",
    "Scope": "schema",
    "Unit": "schema",
    "Scene": "scene",
    "HostView": "view.watch",
}

__all__ = [*_HOME]  # noqa: PLE0604 - what list() gives, without a call


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
