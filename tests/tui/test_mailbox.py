"""News that come before there is a screen, and the order in which they are handed over."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from kvmscope.tui.feed import News, Refusal
from kvmscope.tui.mailbox import Mailbox


def news(number: int) -> Sequence[News]:
    return [Refusal(str(number))]


def test_what_nobody_has_taken_is_forwarded_in_its_order_before_what_comes() -> None:
    mailbox, seen = Mailbox(), list[Sequence[News]]()
    mailbox.put(news(1))
    assert mailbox.take(0) == news(1)
    mailbox.put(news(2))
    mailbox.put(news(3))
    mailbox.forward(seen.append)
    mailbox.put(news(4))
    assert seen == [news(2), news(3), news(4)]


def test_a_taker_waits_for_the_first_news_and_not_for_ever() -> None:
    mailbox = Mailbox()
    assert mailbox.take(0.01) == []
    putter = threading.Thread(target=mailbox.put, args=(news(1),))
    putter.start()
    assert mailbox.take(20) == news(1)
    putter.join()


def test_nothing_is_lost_or_turned_around_while_a_thread_goes_on() -> None:
    mailbox, seen = Mailbox(), list[Sequence[News]]()
    has_begun = threading.Event()

    def put_all() -> None:
        for number in range(2_000):
            mailbox.put(news(number))
            if number == 100:
                has_begun.set()

    putter = threading.Thread(target=put_all)
    putter.start()
    has_begun.wait(20)
    mailbox.forward(seen.append)
    putter.join()
    assert seen == [news(number) for number in range(2_000)]
