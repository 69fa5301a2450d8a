"""Puts a desk together, and shows it until it is left."""

from __future__ import annotations

from .app import TopApp
from .board import Board
from .charset import charset_of_locale
from .feed import Controls, Feed, GroupControls
from .pages.base import Desk
from .settings import SettingsFile, settings_path


def show(
    feed: Feed,
    interval_s: float,
    *,
    groups: GroupControls | None = None,
    player: Controls | None = None,
) -> None:
    """Show what a feed hands over, until the user leaves. Raises SystemExit after a mistake of ours."""
    file = SettingsFile.read(settings_path())
    desk = Desk(Board(file.settings), file, feed, charset_of_locale(), interval_s, groups, player)
    app = TopApp(desk)
    try:
        app.run()
    finally:
        feed.stop()
    if app.return_code:
        raise SystemExit(app.return_code)
