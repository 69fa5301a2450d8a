"""Clients that are slow, silent or many: nobody else waits for them."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from select import select
from typing import Any

from kvmscope.web.server.connections import ConnectionBounds

DEADLINE_S = 20.0


def connected(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S))


def is_closed(client: socket.socket) -> bool:
    """Whether the server ends the connection within the deadline."""
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    return True


def test_a_request_that_does_not_end_is_cut_off(serve: Any) -> None:
    running = serve(bounds=ConnectionBounds(head_s=0.3))
    with ExitStack() as stack:
        silent, slow = connected(stack, running.port), connected(stack, running.port)
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-")
        assert is_closed(silent)
        assert is_closed(slow)


def test_dripping_bytes_buys_no_time(serve: Any) -> None:
    running = serve(bounds=ConnectionBounds(head_s=0.5))
    with ExitStack() as stack:
        client = connected(stack, running.port)
        client.sendall(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        try:
            while time.monotonic() - began < DEADLINE_S:
                client.sendall(b"X-A: b\r\n")
                client.settimeout(0.05)
                try:
                    if not client.recv(1):
                        break
                except TimeoutError:
                    continue
        except ConnectionError:
            pass
        assert time.monotonic() - began < DEADLINE_S


def test_a_body_that_does_not_come_is_cut_off(serve: Any) -> None:
    running = serve(bounds=ConnectionBounds(head_s=0.3))
    with ExitStack() as stack:
        client = connected(stack, running.port)
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        assert is_closed(client)


def test_many_silent_connections_keep_nobody_out(serve: Any) -> None:
    running = serve(bounds=ConnectionBounds(most=20))
    with ExitStack() as stack:
        for _ in range(100):
            connected(stack, running.port)
        for _ in range(5):
            assert running.get("/metrics").status == 200


def test_a_client_that_does_not_read_is_cut_off_and_others_are_answered(serve: Any) -> None:
    bounds = ConnectionBounds(read_s=0.3)
    running = serve(bounds=bounds)
    with ExitStack() as stack:
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(DEADLINE_S)
        client.connect(("127.0.0.1", running.port))
        for _ in range(300):  # pipelined: there is more to send than buffers hold
            client.sendall(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
        assert running.get("/metrics").status == 200
        deadline = time.monotonic() + DEADLINE_S
        while bounds.count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bounds.count == 0


def test_a_head_that_is_too_long_is_refused(serve: Any) -> None:
    running = serve()
    with ExitStack() as stack:
        client = connected(stack, running.port)
        client.sendall(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 4") or is_closed(client)
    assert running.get("/-/healthy").status == 200


def test_a_connection_is_used_again(serve: Any) -> None:
    running = serve()
    with ExitStack() as stack:
        client = connected(stack, running.port)
        for _ in range(3):
            client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while b"healthy." not in answer:
                answer += client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_burst_of_silent_connections_leaves_no_more_than_there_may_be(serve: Any) -> None:
    running = serve(bounds=ConnectionBounds(most=20))
    with ExitStack() as stack:
        clients = [connected(stack, running.port) for _ in range(300)]
        assert running.get("/metrics").status == 200
        assert all(is_closed(client) for client in clients[:280])
        assert not select(clients[281:], [], [], 0)[0]


def test_a_connection_beyond_those_that_wait_for_answers_is_refused_with_503(serve: Any) -> None:
    running = serve(bounds=ConnectionBounds(most=2))
    with ExitStack() as stack:
        for _ in range(2):
            client = connected(stack, running.port)
            client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        answer = connected(stack, running.port).makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"\r\n\r\nThere are too many connections.\n")
