"""The packages that the server needs besides numpy."""

from __future__ import annotations

from ...errors import Unavailable


def require_server() -> None:
    """Raises Unavailable if the extra for the server is not installed."""
    try:
        import bcrypt  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import yaml  # noqa: F401
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"serve needs {error.name}, which is not installed", remedy="pip install 'kvmscope[serve]'"
        ) from None


def require_otlp() -> None:
    """Raises Unavailable if the extra for pushing metrics is not installed."""
    try:
        import opentelemetry.proto  # noqa: F401
    except ModuleNotFoundError:
        raise Unavailable("--otlp needs opentelemetry-proto", remedy="pip install 'kvmscope[otlp]'") from None
