"""ClickHouse's HTTP interface over the embedded engine, as a program: ``python clickhouse_http.py PORT DIR``.

For tests of what goes over HTTP, since no package index has a current server. The engine is real, and the client that
speaks to it; only what lies between is here: queries with their settings as parameters, inserts with rows in the body,
errors with their status. Source: https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from monitoring import free_port, running


class EmbeddedServer:
    """Takes one query after the other."""

    def __init__(self, directory: str) -> None:
        from chdb import session

        make: Any = session.Session
        self._session = make(directory)
        self._lock = threading.Lock()
        self._settings = frozenset(self._ask("SELECT name FROM system.settings").decode().split())

    def answer(self, parameters: dict[str, str], body: bytes) -> bytes:
        """The result of a query, whose text is a parameter or the body. Raises RuntimeError as chdb does."""
        with self._lock:
            self._session.query(f"USE {parameters.get('database') or 'default'}")
            for name, value in parameters.items():
                if name in self._settings:  # others are of HTTP
                    self._session.query(f"SET {name} = '{value}'")
            if "query" not in parameters:
                return self._ask(body.decode())
            return self._insert(parameters["query"], body) if body else self._ask(parameters["query"])

    def _ask(self, text: str) -> bytes:
        found: bytes = self._session.query(text, "TabSeparated").bytes()
        return found

    def _insert(self, text: str, rows: bytes) -> bytes:
        """``INSERT INTO table … FORMAT Arrow`` with the rows of the body, by their names."""
        import pyarrow as pa

        names = ", ".join(f"`{name}`" for name in pa.ipc.open_file(pa.BufferReader(rows)).schema.names)
        table = text.split()[2]
        with tempfile.NamedTemporaryFile(suffix=".arrow") as file:
            file.write(rows)
            file.flush()
            return self._ask(f"INSERT INTO {table} ({names}) SELECT {names} FROM file('{file.name}', Arrow)")


def handler_of(server: EmbeddedServer) -> type[BaseHTTPRequestHandler]:
    class QueryHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._respond(200, b"Ok.\n") if self.path == "/ping" else self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                self._respond(200, server.answer(dict(parse_qsl(urlsplit(self.path).query)), body))
            except RuntimeError as error:
                self._respond(500, str(error).encode())

        def _respond(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    return QueryHandler


@contextmanager
def clickhouse_server(directory: Path) -> Iterator[str]:
    """The URL of a server whose data lie in a directory."""
    pytest.importorskip("chdb", reason="chdb is not installed: make setup")
    port = free_port()
    with running([sys.executable, __file__, str(port), str(directory)], f"http://127.0.0.1:{port}/ping"):
        yield f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler_of(EmbeddedServer(sys.argv[2]))).serve_forever()
