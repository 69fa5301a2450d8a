"""A desk whose views are made from samples by hand, and its screen as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from crafted import MACHINE, VmSpec, identities, make_sample

from kvmscope.sample import Sample
from kvmscope.scene import Scene
from kvmscope.tui.board import Board
from kvmscope.tui.charset import Charset
from kvmscope.tui.feed import Arrival, Deliver, News, Position
from kvmscope.tui.lines import PageSize, plain_text
from kvmscope.tui.pages.base import Desk
from kvmscope.tui.settings import SettingsFile
from kvmscope.tui.shell import Shell
from kvmscope.view.events import EventWatch
from kvmscope.view.watch import HostView, Watch


@dataclass
class HandFeed:
    """Hands over what the test has it hand over."""

    deliver: Deliver | None = None
    wanted: Sequence[str] = ()
    position: Position | None = None
    is_stopped: bool = False

    def start(self, deliver: Deliver) -> None:
        self.deliver = deliver

    def stop(self) -> None:
        self.is_stopped = True

    def want(self, metrics: Sequence[str]) -> None:
        self.wanted = metrics


@dataclass
class HandHost:
    """A host of VMs that the test names for each second; gives the views."""

    watch: Watch = field(default_factory=Watch)
    events: EventWatch = field(default_factory=EventWatch)
    seconds: Iterator[int] = field(default_factory=count)

    def add(self, vms: Sequence[VmSpec]) -> Arrival | None:
        """One more second; None for the first."""
        sample = make_sample(vms, at_s=next(self.seconds))
        return self.add_scene(Scene(sample, identities(vms), MACHINE, {}))

    def add_scene(self, scene: Scene) -> Arrival | None:
        view = self.watch.add(scene)
        return None if view is None else Arrival(view, self.events.add(view))

    def add_sample(self, sample: Sample, names: Sequence[VmSpec]) -> HostView | None:
        return self.watch.add(Scene(sample, identities(names), MACHINE, {}))


class HandScreen:
    """A shell without a terminal."""

    def __init__(self, folder: Path, *, is_ascii: bool = False, size: tuple[int, int] = (80, 24)) -> None:
        file = SettingsFile.read(folder / "top.toml")
        self.feed = HandFeed()
        self.desk = Desk(Board(file.settings), file, self.feed, Charset(is_ascii=is_ascii), 1.0)
        self.shell = Shell(self.desk)
        self.size = PageSize(*size)
        self.host = HandHost()

    @property
    def board(self) -> Board:
        return self.desk.board

    def second(self, *vms: VmSpec) -> None:
        """One more second, with these VMs."""
        news = self.host.add(vms)
        if news is not None:
            self.take(news)

    def take_scenes(self, scenes: Iterable[Scene]) -> None:
        """What the thread that reads hands over, for scenes that follow one another."""
        for scene in scenes:
            arrival = self.host.add_scene(scene)
            if arrival is not None:
                self.take(arrival)

    def take(self, news: News) -> None:
        self.shell.take(news)

    def keys(self, *keys: str) -> None:
        """Press keys; a single character is typed."""
        names = {"/": "slash", "?": "question_mark", " ": "space", ",": "comma", ".": "full_stop"}
        for key in keys:
            self.shell.key(names.get(key, key), key if len(key) == 1 else None)
            self.draw()

    def draw(self) -> str:
        lines = self.shell.draw(self.size)
        assert len(lines) == self.size.height
        return plain_text(lines)

    def rows(self) -> list[str]:
        return self.draw().splitlines()


@pytest.fixture
def screen(tmp_path: Path) -> HandScreen:
    return HandScreen(tmp_path)


@pytest.fixture
def make_screen(tmp_path: Path) -> Callable[..., HandScreen]:
    return lambda **options: HandScreen(tmp_path, **options)
