"""Textual's driver of a terminal, which goes on upon a first screen that is there already.

Bytes that are not UTF-8, such as an é of a terminal with another encoding, are left out of what is typed.
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


# Textual decodes strictly, and has no option for it: one such byte ends its program with a traceback.
vars(linux_driver)["getincrementaldecoder"] = _lenient_decoder


def driver_upon(first: FirstScreen) -> type[Driver]:
    """The driver that takes ``first`` over when it starts. Terminals clear the alternate screen when it is entered a
    second time, which would show as a flash.
    """

    class FollowingDriver(LinuxDriver):
        def write(self, data: str) -> None:
            if data == ENTER_ALTERNATE and first.hand_over():
                return
            super().write(data)

    return FollowingDriver
