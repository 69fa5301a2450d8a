"""The HTTP server in its own thread: uvicorn on sockets that are already open.

In a thread, uvicorn does not handle signals, so ``console.interrupts`` decides how the process ends.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Final

import uvicorn
from starlette.applications import Starlette

from .connections import ConnectionBounds
from .listen import BACKLOG

_SHUTDOWN_S: Final = 2
_KEEP_ALIVE_S: Final = 75
_LARGEST_HEAD_BYTES: Final = 16 * 1024


class HttpServer:
    """Serves an application from ``start`` to ``close``. ``done``: set when it has ended, for any reason.

    ``tls``: the context for connections; None for plain HTTP.
    """

    def __init__(
        self,
        app: Starlette,
        sockets: Sequence[socket.socket],
        *,
        tls: ssl.SSLContext | None = None,
        bounds: ConnectionBounds | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=(bounds or ConnectionBounds()).protocol,  # type: ignore[arg-type] # uvicorn only calls it
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,  # maximum that is accepted at once
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
            h11_max_incomplete_event_size=_LARGEST_HEAD_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._sockets = list(sockets)
        self._thread = threading.Thread(target=self._run, name="kvmscope-http", daemon=True)
        self.done = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * _SHUTDOWN_S)
        for each in self._sockets:
            each.close()

    def _run(self) -> None:
        try:
            self._server.run(self._sockets)
        finally:
            self.done.set()
