"""Textual's terminal driver, changed to continue on a first screen that is already drawn.

Typed bytes that are not UTF-8, such as an é from a terminal with another encoding, are dropped.
"""

from __future__ import annotations

import codecs
from functools import partial
from typing import TYPE_CHECKING

from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver

from .first_screen import ENTER_ALTERNATE, FirstScreen

if TYPE_CHECKING:
    from textual.driver import Driver


def _lenient_decoder(encoding: str) -> partial[codecs.IncrementalDecoder]:
    return partial(codecs.getincrementaldecoder(encoding), "ignore")


# Textual decodes strictly and has no option to change that: one such byte ends the program with a traceback.
vars(linux_driver)["getincrementaldecoder"] = _lenient_decoder


def driver_upon(first: FirstScreen) -> type[Driver]:
    """The driver that takes ``first`` over when it starts. Terminals clear the alternate screen when it is entered a
    second time, which would be visible as a flash.
    """

    class FollowingDriver(LinuxDriver):
        def write(self, data: str) -> None:
            if data == ENTER_ALTERNATE and first.hand_over():
                return
            super().write(data)

    return FollowingDriver
