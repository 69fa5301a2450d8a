"""Opening a host on a thread of its own: what it gives, what it raises, and what becomes of what nobody waits for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kvmscope import SourceError, Unavailable, UsageError, open_host
from kvmscope.collect import HostOpening, opening
from kvmscope.sources.base import Source
from kvmscope.sources.published import PublishedSource

DEADLINE_S = 10.0


class WatchedSource(PublishedSource):
    """A source that says when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = threading.Event()

    def close(self) -> None:
        super().close()
        self.closed.set()


@contextmanager
def opens(monkeypatch: pytest.MonkeyPatch, open_source: Callable[[], Source]) -> Iterator[None]:
    """The source ``published`` is opened by this."""
    with monkeypatch.context() as patch:
        patch.setattr(opening, "SOURCES", {"published": open_source})
        yield


def test_a_host_that_was_waited_for_reads_by_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    source = WatchedSource()
    with opens(monkeypatch, lambda: source), HostOpening("published").wait() as host:
        assert host.read().source == "published"
        assert not source.closed.is_set()
    assert source.closed.is_set()


def test_the_caller_goes_on_while_the_source_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()

    def open_source() -> Source:
        assert may_go_on.wait(DEADLINE_S)
        return PublishedSource()

    with opens(monkeypatch, open_source):
        host_opening = HostOpening("published")
        may_go_on.set()  # reached although the source is not open
        host_opening.wait().close()


def test_why_it_cannot_be_opened_is_raised_where_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Unavailable("not today")

    def refuse() -> Source:
        raise refusal

    with opens(monkeypatch, refuse):
        host_opening = HostOpening("published")
        with pytest.raises(SourceError) as raised:
            host_opening.wait()
    assert raised.value is refusal


@pytest.mark.parametrize("is_open_before", [True, False])
def test_a_source_that_nobody_waits_for_is_closed(monkeypatch: pytest.MonkeyPatch, is_open_before: bool) -> None:
    source, may_go_on, is_made = WatchedSource(), threading.Event(), threading.Event()

    def open_source() -> Source:
        assert may_go_on.wait(DEADLINE_S)
        is_made.set()
        return source

    with opens(monkeypatch, open_source):
        host_opening = HostOpening("published")
        if is_open_before:
            may_go_on.set()
            assert is_made.wait(DEADLINE_S)
        host_opening.close()
        may_go_on.set()
        assert source.closed.wait(DEADLINE_S)


def test_an_interruption_of_the_wait_closes_what_is_opened_later(monkeypatch: pytest.MonkeyPatch) -> None:
    source, may_go_on = WatchedSource(), threading.Event()

    def open_source() -> Source:
        assert may_go_on.wait(DEADLINE_S)
        return source

    with opens(monkeypatch, open_source):
        host_opening = HostOpening("published")
        timer = threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            host_opening.wait()
        assert not source.closed.is_set()
        may_go_on.set()
        assert source.closed.wait(DEADLINE_S)
    timer.join()


def test_what_is_wrong_with_the_call_is_raised_at_once() -> None:
    with pytest.raises(UsageError, match="no source 'abacus'"):
        HostOpening("abacus")
    with pytest.raises(UsageError, match="no group 'none'"):
        open_host(groups=["none"])
    with pytest.raises(UsageError, match="a list of names"):
        open_host(groups="exits")
    assert not [thread for thread in threading.enumerate() if thread.name == "opening" and thread.is_alive()]
