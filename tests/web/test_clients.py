"""Many clients at once: two scrapers beside fifty pages, and memory that does not grow with scrapes.

``KVMSCOPE_SCRAPES`` says how many scrapes the memory is held over; 10,000 take minutes.
"""

from __future__ import annotations

import http.client
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from crafted import Crafted

DEADLINE_S = 30.0
PAGES, SCRAPERS, SCRAPES = 50, 2, 20
MEMORY_SCRAPES = int(os.environ.get("KVMSCOPE_SCRAPES", "300"))
WARM_UP = 100


@pytest.fixture
def busy(serve: Any, crafted: Crafted) -> Any:
    """A server with five intervals a second."""
    second = 10**9
    later = [
        replace(crafted.after, taken_ns=crafted.after.taken_ns + at, monotonic_ns=crafted.after.monotonic_ns + at)
        for at in range(0, 600 * second, second)
    ]
    return serve([crafted.before, *later], interval_s=0.2)


def two_events(port: int) -> int:
    """How many messages a page has got when it has got two."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/api/v1/events")
        answer = connection.getresponse()
        found = 0
        while found < 2:
            found += answer.readline().startswith(b"data: ")
        return found
    finally:
        connection.close()


def test_two_scrapers_and_fifty_pages_are_served_at_once(busy: Any) -> None:
    together = threading.Barrier(PAGES + SCRAPERS)

    def page(_number: int) -> int:
        together.wait(DEADLINE_S)
        return two_events(busy.port)

    def scraper(_number: int) -> list[int]:
        together.wait(DEADLINE_S)
        return [busy.get("/metrics", accept_encoding="gzip").status for _ in range(SCRAPES)]

    with ThreadPoolExecutor(PAGES + SCRAPERS) as pool:
        pages = [pool.submit(page, number) for number in range(PAGES)]
        scrapers = [pool.submit(scraper, number) for number in range(SCRAPERS)]
        assert [each.result() for each in scrapers] == [[200] * SCRAPES] * SCRAPERS
        assert [each.result() for each in pages] == [2] * PAGES


def test_pages_that_read_nothing_hold_up_neither_scrapers_nor_other_pages(busy: Any) -> None:
    with ExitStack() as stack:
        for _ in range(PAGES):
            hung = stack.enter_context(socket.socket())
            hung.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            hung.connect(("127.0.0.1", busy.port))
            hung.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
        assert two_events(busy.port) == 2
        assert busy.get("/metrics").status == 200


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def test_memory_is_flat_over_scrapes(serve: Any) -> None:
    running = serve()
    for _ in range(WARM_UP):
        running.get("/metrics", accept_encoding="gzip")
    before = resident_bytes()
    began = time.monotonic()
    for _ in range(MEMORY_SCRAPES):
        assert running.get("/metrics", accept_encoding="gzip").status == 200
    grown = resident_bytes() - before
    assert grown <= 1 << 20, f"{grown} bytes after {MEMORY_SCRAPES} scrapes in {time.monotonic() - began:.0f} s"
