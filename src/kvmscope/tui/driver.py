"""Textual's driver of a terminal, which goes on upon a first screen that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.drivers.linux_driver import LinuxDriver

from .first_screen import ENTER_ALTERNATE, FirstScreen

if TYPE_CHECKING:
    from textual.driver import Driver


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
