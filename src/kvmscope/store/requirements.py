"""What recordings need beyond numpy."""

from __future__ import annotations

from ..errors import Unavailable


def require_pyarrow() -> None:
    """Raises Unavailable if the extra for recordings is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise Unavailable("recordings need pyarrow", remedy="pip install 'kvmscope[history]'") from None
