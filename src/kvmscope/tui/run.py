"""Creates a desk, and shows it until the user leaves.

The first view is shown before Textual is loaded if it arrives soon and the theme uses the terminal's own colours.
Until then, the reading thread has Python's global lock for itself.
"""

from __future__ import annotations

import os
import shutil
from typing import Final

from .board import Board
from .charset import charset_of_locale
from .feed import Arrival, Controls, Feed, GroupControls
from .first_screen import FirstScreen
from .lines import PageSize
from .mailbox import Mailbox
from .pages.base import Desk
from .settings import OWN_THEMES, SettingsFile, settings_path
from .shell import Shell

FIRST_WAIT_S: Final = 2.0
"""Maximum wait for the first view, with an empty screen."""


def show(
    feed: Feed,
    interval_s: float,
    *,
    groups: GroupControls | None = None,
    player: Controls | None = None,
) -> None:
    """Show the views of a feed until the user leaves. Raises SystemExit after a bug of kvmscope."""
    file = SettingsFile.read(settings_path())
    shell = Shell(Desk(Board(file.settings), file, feed, charset_of_locale(), interval_s, groups, player))
    mailbox, first = Mailbox(), FirstScreen(has_colours="NO_COLOR" not in os.environ)
    try:
        feed.start(mailbox.put)
        _draw_first(shell, mailbox, first)
        exit_code = _run(shell, mailbox, first)
    finally:
        first.close()
        feed.stop()
    if exit_code:
        raise SystemExit(exit_code)


def _draw_first(shell: Shell, mailbox: Mailbox, screen: FirstScreen) -> None:
    """Draw the first view, unless Textual has to draw it."""
    if shell.desk.settings.theme not in OWN_THEMES:
        return
    news = mailbox.take(FIRST_WAIT_S)
    for each in news:
        shell.take(each)
    if any(isinstance(each, Arrival) for each in news):
        screen.draw(shell.draw(PageSize(*shutil.get_terminal_size())))


def _run(shell: Shell, mailbox: Mailbox, first: FirstScreen) -> int:
    """Run Textual, and return its exit code."""
    from .app import TopApp  # not at the top, as it loads Textual

    app = TopApp(shell, mailbox.forward, first if first.is_drawn else None)
    app.run()
    return app.return_code or 0
