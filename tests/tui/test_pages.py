"""Every page as it looks, byte for byte, on small and large terminals and in ASCII, and where keys lead.

The expected screens are in tests/data/tui; ``KVMSCOPE_UPDATE=1 pytest tests/tui`` writes them, to be read before a
commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmscope.tui.pages.lists import ColumnsPage, EventsPage, FindingsPage, SortPage, TablePage
from kvmscope.tui.pages.subject import StatPage, SubjectPage
from kvmscope.tui.pages.texts import ApicvPage, HelpPage, RulePage, VmFindingsPage
from kvmscope.tui.pages.vm import VmPage
from kvmscope.tui.pages.vms import VmsPage

from .conftest import HandScreen
from .scenario import guests

DATA = Path(__file__).parent.parent / "data" / "tui"


def seconds(screen: HandScreen, last: int = 6) -> HandScreen:
    for second in range(last + 1):
        screen.second(*guests(second))
    screen.draw()
    return screen


def expect(name: str, text: str) -> None:
    path = DATA / f"{name}.txt"
    if os.environ.get("KVMSCOPE_UPDATE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


PAGES: dict[str, tuple[str, ...]] = {
    "vms": (),
    "vms-selected": ("down", " ", "down"),
    "vms-filtered": ("/", "w", "e", "b", "enter"),
    "vm": ("down", "enter"),
    "statistics": ("down", "enter", "enter"),
    "statistic": ("down", "down", "enter", "enter", "/", *"halt_wait_h", "enter", "enter"),
    "metric": ("down", "enter", "enter", "enter"),
    "findings": ("d",),
    "rule": ("d", "enter"),
    "vm-findings": ("down", "enter", "d"),
    "apicv": ("a",),
    "events": ("e",),
    "columns": ("f",),
    "sort": ("s",),
    "help": ("?",),
}
CATALOGUE = ("statistics", "columns", "sort", "help", "rule", "vm-findings", "statistic", "metric")
"""Pages with texts of the catalogue, of which a large screen would show every change."""

SIZES = {"80x24": (80, 24), "120x40": (120, 40), "300x80": (300, 80)}


@pytest.mark.parametrize(
    ("page", "size"), [(page, size) for page in PAGES for size in SIZES if size == "80x24" or page not in CATALOGUE]
)
def test_a_page_looks_as_expected(page: str, size: str, make_screen: Callable[..., HandScreen]) -> None:
    screen = seconds(make_screen(size=SIZES[size]))
    screen.keys(*PAGES[page])
    expect(f"{page}-{size}", screen.draw())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_in_ascii_has_nothing_else_and_the_same_layout(
    page: str, make_screen: Callable[..., HandScreen]
) -> None:
    screen = seconds(make_screen(size=(80, 24), is_ascii=True))
    screen.keys(*PAGES[page])
    text = screen.draw()
    assert text.isascii()
    expect(f"{page}-ascii", text)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (20, 6), (39, 10), (80, 2)])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_terminal_of_any_size(
    page: str, size: tuple[int, int], make_screen: Callable[..., HandScreen]
) -> None:
    screen = seconds(make_screen(size=size))
    screen.keys(*PAGES[page])
    for line in screen.shell.draw(screen.size):
        assert sum(map(len, (span.text for span in line.spans))) <= size[0]


def test_keys_lead_from_the_host_to_one_statistic_and_back(screen: HandScreen) -> None:
    seconds(screen)
    kinds = [VmPage, SubjectPage, StatPage]
    screen.keys("down")
    for kind in kinds:
        screen.keys("enter")
        assert type(screen.desk.page) is kind
    for kind in (SubjectPage, VmPage, VmsPage):
        screen.keys("escape")
        assert type(screen.desk.page) is kind


@pytest.mark.parametrize(
    ("key", "page"),
    [("d", FindingsPage), ("a", ApicvPage), ("e", EventsPage), ("f", ColumnsPage), ("s", SortPage), ("?", HelpPage)],
)
def test_a_key_opens_its_page_and_q_closes_it(screen: HandScreen, key: str, page: type) -> None:
    seconds(screen)
    screen.keys(key)
    assert type(screen.desk.page) is page
    screen.keys("q")
    assert type(screen.desk.page) is VmsPage
    assert not screen.desk.has_left
    screen.keys("q")
    assert screen.desk.has_left


def test_of_a_vm_findings_and_apicv_are_its_own(screen: HandScreen) -> None:
    seconds(screen)
    screen.keys("down", "enter", "d")
    assert screen.desk.page.name == VmFindingsPage.name
    assert "old-nic" in screen.draw()
    screen.keys("escape", "a")
    assert screen.desk.page.name == ApicvPage.name
    assert "old-nic" in screen.draw()
    assert "web-1" not in screen.draw()


def test_a_rule_has_its_impact_and_its_fix(screen: HandScreen) -> None:
    seconds(screen)
    screen.keys("d", "enter")
    assert type(screen.desk.page) is RulePage
    screen.size = type(screen.size)(100, 50)
    assert "impact: " in screen.draw()
    assert "fix: " in screen.draw()


def test_events_are_what_happened_and_lead_to_the_vm(screen: HandScreen) -> None:
    seconds(screen)
    screen.keys("e")
    text = screen.draw()
    for what in ("VM started", "VM ended", "finding began", "stats reset"):
        assert what in text
    screen.keys("down", "enter")
    assert type(screen.desk.page) in (VmPage, EventsPage)


def test_columns_that_are_switched_off_are_gone_also_in_the_next_run(
    screen: HandScreen, make_screen: Callable[..., HandScreen]
) -> None:
    seconds(screen)
    assert "APICv" in screen.rows()[2]
    screen.keys("f", "down", "down", " ", "escape")
    assert "APICv" not in screen.rows()[2]
    assert "APICv" not in seconds(make_screen()).rows()[2]


def test_a_column_that_matters_more_is_there_where_the_terminal_is_narrow(screen: HandScreen) -> None:
    seconds(screen)
    assert "halt poll" not in screen.rows()[2]
    screen.keys("f", *["down"] * 11)
    assert screen.rows()[12].startswith("[x]  halt poll")
    screen.keys(*["plus"] * 8, "escape")
    assert "halt poll" in screen.rows()[2]


def test_sorting_is_kept_and_turned_around_by_the_same_choice(screen: HandScreen) -> None:
    seconds(screen)
    screen.keys("s", "home", "down", "enter")
    assert screen.desk.settings.sort == "name"
    names = [row.split()[0] for row in screen.rows()[3:6]]
    assert names == sorted(names)
    screen.keys("s", "enter")
    assert screen.desk.settings.is_upside_down


def test_the_vm_that_is_open_ends_and_its_page_says_so_with_the_last_values(screen: HandScreen) -> None:
    seconds(screen, 3)
    screen.keys("/", *"batch", "enter", "down", "enter")
    assert "ENDED" not in screen.draw()
    for second in range(4, 40):
        screen.second(*guests(second))
    text = screen.draw()
    assert "ENDED by 22:13:25: all values are the last ones" in text
    assert all(line.is_stale for line in screen.shell.draw(screen.size) if line.spans[0].text.startswith("all"))
    screen.keys("enter", "enter")
    assert "ENDED" in screen.rows()[0]
    assert "last: " in screen.rows()[1]


def test_the_mouse_selects_opens_and_sorts(screen: HandScreen) -> None:
    seconds(screen)
    screen.shell.click(5, 4, screen.size, is_double=False)
    screen.draw()
    assert screen.board.selected == screen.board.order[1]
    at = screen.rows()[2].index("exits/s")
    screen.shell.click(at + 1, 2, screen.size, is_double=False)
    assert screen.desk.settings.sort == "exits_per_s"
    screen.draw()
    screen.shell.click(5, 3, screen.size, is_double=True)
    assert type(screen.desk.page) is VmPage


def test_the_ways_out_and_to_the_help_are_shown_at_any_width(make_screen: Callable[..., HandScreen]) -> None:
    for keys in ((), ("s",), ("f",), ("d",), ("e",), ("g",), ("home", "enter"), ("home", "enter", "enter")):
        screen = make_screen(size=(22, 12))
        seconds(screen)
        screen.keys(*keys)
        last = screen.rows()[-1]
        assert "? help" in last
        assert "Esc" in last or "q quit" in last


def test_a_narrow_table_leaves_columns_out_and_cuts_no_number(make_screen: Callable[..., HandScreen]) -> None:
    for width in range(30, 130):
        screen = make_screen(size=(width, 24))
        seconds(screen)
        screen.keys("home", "enter", "enter")
        heads = screen.rows()[1].split()
        assert heads == ["statistic", "now", "kind", "stability", "by"][: len(heads)], width
        assert all(row.rstrip()[-1:] != "…" for row in screen.rows()[2:8] if len(heads) == 2), width


@pytest.mark.parametrize("keys", [("d",), ("e",), ("f",), ("s",)])
def test_what_a_row_cuts_off_stands_whole_below_once_it_is_chosen(keys: tuple[str, ...], screen: HandScreen) -> None:
    seconds(screen)
    screen.keys(*keys, "home")
    page = screen.desk.page
    assert isinstance(page, TablePage)
    for place in range(min(page.count, 8)):
        page.set_cursor(place)
        assert " ".join(page.about(place).split()) in " ".join(screen.draw().split())


def test_the_totals_are_whole_in_ascii_at_any_width(make_screen: Callable[..., HandScreen]) -> None:
    for width in range(60, 180):
        screen = make_screen(size=(width, 24), is_ascii=True)
        seconds(screen, 2)
        assert "~" not in screen.rows()[1], width


def test_a_host_without_vms_says_so_in_whole_sentences(screen: HandScreen) -> None:
    screen.second()
    screen.second()
    text = " ".join(screen.draw().split())
    assert "no VM is running here" in text
    assert "kvmscope demo" in text


def test_a_low_terminal_shows_vms_rather_than_totals(make_screen: Callable[..., HandScreen]) -> None:
    screen = make_screen(size=(80, 5))
    seconds(screen)
    assert "old-nic" in screen.draw()


def test_a_metric_that_the_host_cannot_count_takes_no_column(screen: HandScreen) -> None:
    seconds(screen)
    assert "CPU wait" not in screen.draw()
    screen.keys("f")
    assert "not on this host: Wall time that vCPUs were ready to run" in screen.draw()
