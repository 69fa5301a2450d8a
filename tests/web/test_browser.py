"""The page in a real browser: every view in both themes and sizes, by keyboard, live, lost and recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: make setup")

from browser import DESKTOP, PHONE, Tab, chromium, recording_server, simulated_server, tab
from loads import Load, machine, record_hosts, simulated_scenes
from playwright.sync_api import Browser, ViewportSize

MOST_BYTES = 100_000
EVIL = (
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(1)</script>",
    "\x1b[31m\u202ered\nnext",
    "`${alert(1)}`{{7*7}}",
)
BOTH = pytest.mark.parametrize(("scheme", "viewport"), [("light", PHONE), ("dark", DESKTOP)], ids=["phone", "desktop"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def live() -> Iterator[str]:
    """A server that has seen some intervals."""
    with simulated_server() as base:
        yield base


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A recording of two hosts, one with a break."""
    other = Load(vms=3, host="c" * 32, machine=machine(hostname="host-9"), names=("a", "b", "c"))
    hosts = [[*simulated_scenes(40), *simulated_scenes(40, begin_s=400)], simulated_scenes(20, begin_s=10, load=other)]
    with recording_server(record_hosts(hosts, tmp_path_factory.mktemp("recorded") / "r")) as base:
        yield base


def ask(base: str, path: str) -> dict[str, object]:
    with urlopen(f"{base}api/v1/{path}") as answer:
        found: dict[str, object] = json.load(answer)
    return found


def first_vm(base: str) -> str:
    vms = ask(base, "vms")["vms"]
    assert isinstance(vms, list)
    return str(vms[0]["id"])


def places(base: str) -> list[str]:
    """An address of each view."""
    vm = first_vm(base)
    return [
        "",
        f"#vm={vm}",
        f"#vm={vm}&vcpu=0",
        f"#vm={vm}&stat=halt_wait_hist&provider=kvm",
        f"#vm={vm}&metric=exits_per_s",
    ]


def show_all(found: Tab) -> None:
    """Open everything that can be unfolded, and wait until it is there."""
    found.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found.wait("[...document.querySelectorAll('details[open]')].every((each) => each.lastChild.hasChildNodes())")


@pytest.mark.slow
@BOTH
def test_every_view_is_accessible_and_fits_its_width(
    browser: Browser, live: str, scheme: str, viewport: ViewportSize
) -> None:
    with tab(browser, live, viewport, scheme) as found:
        for place in places(live):
            found.open(place)
            show_all(found)
            assert found.faults_of_accessibility() == [], place
            assert found.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], place


@pytest.mark.slow
@BOTH
def test_a_recording_is_accessible_and_never_called_live(
    browser: Browser, recorded: str, scheme: str, viewport: ViewportSize
) -> None:
    with tab(browser, recorded, viewport, scheme) as found:
        for place in places(recorded):
            found.open(place)
            assert found.text("#mode") == "Recorded"
            assert found.page.locator("#go-live").is_hidden()
            assert found.faults_of_accessibility() == [], place
            assert found.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], place


def test_a_fault_of_accessibility_would_be_seen(browser: Browser, live: str) -> None:
    with tab(browser, live) as found:
        found.open()
        found.page.evaluate("document.querySelector('#main').append(document.createElement('input'))")
        assert any(fault.startswith("label") for fault in found.faults_of_accessibility())


def test_all_that_is_loaded_before_data_is_small(browser: Browser, live: str) -> None:
    with tab(browser, live) as found:
        found.open()
        entries = found.page.evaluate(
            "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
            ".map((each) => [each.name, each.transferSize])"
        )
    sizes = {urlsplit(name).path: size for name, size in entries if "/api/" not in name}
    assert {"/", "/assets/page.js", "/assets/views.js", "/assets/uPlot.iife.min.js"} <= set(sizes)
    assert sum(sizes.values()) <= MOST_BYTES


def test_the_script_writes_numbers_as_the_server_does(browser: Browser, recorded: str) -> None:
    with urlopen(recorded) as answer:
        html = answer.read().decode()
    sent = re.findall(r"<td[^>]*>(.*?)</td>", html.partition('id="vm-rows"')[2].partition("</table>")[0])
    with tab(browser, recorded) as found:
        found.open()
        shown = found.page.locator("#vms tbody td, #vms tfoot td").all_inner_texts()
    assert shown == [unescape(re.sub(r"<[^>]*>", "", cell)) for cell in sent]
    assert len(shown) > 20


def test_new_intervals_appear_by_themselves(browser: Browser, live: str) -> None:
    with tab(browser, live) as found:
        found.open()
        found.wait("document.body.dataset.mode === 'live'")
        before = found.text("#time")
        found.wait(f"document.getElementById('time').textContent !== '{before}'")


def test_a_restart_of_the_server_is_survived_and_old_numbers_are_not_called_live(browser: Browser) -> None:
    with simulated_server() as base:
        port = urlsplit(base).port
        assert port is not None
        context = tab(browser, base)
        found = context.__enter__()
        found.open()
        found.wait("document.body.dataset.mode === 'live'")
        found.is_lost = True
    found.wait("document.body.dataset.mode === 'lost'")
    assert found.text("#mode") == "Not live"
    assert "old" in found.text("#note")
    assert found.faults_of_accessibility() == []
    with simulated_server(port=port):
        found.wait("document.body.dataset.mode === 'live'")
        found.page.wait_for_selector("#note", state="hidden")
        found.page.wait_for_selector("#charts .chart canvas")
        context.__exit__(None, None, None)


def press_until(found: Tab, key: str, selector: str) -> None:
    """Press a key until an element has the focus."""
    for _ in range(200):
        if found.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        found.page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {selector}")


def test_every_view_is_reached_and_left_by_keyboard(browser: Browser, live: str) -> None:
    with tab(browser, live) as found:
        found.open()
        for selector, heading, begin in (
            ("#vm-rows a", "#subject-name", "vm-"),
            ("#vcpus a", "#subject-name", "vCPU "),
            ("#stat-rows a", "#stat-name", "exits/s of vCPU "),
        ):
            press_until(found, "Tab", selector)
            found.page.keyboard.press("Enter")
            found.wait(f"document.activeElement.matches('{heading}')")
            found.wait(f"document.querySelector('{heading}').textContent.startsWith('{begin}')")
        for view in ("subject", "subject", "host"):
            found.page.keyboard.press("Escape")
            found.page.wait_for_selector(f"#{view}-view", state="visible")
        assert urlsplit(found.page.url).fragment == ""


@pytest.mark.parametrize("key", ["Home", "PageDown", "ArrowLeft"])
def test_the_time_line_is_moved_by_keyboard_and_shows_what_was_then(browser: Browser, recorded: str, key: str) -> None:
    with tab(browser, recorded) as found:
        found.open()
        before = found.text("#time")
        found.page.locator("#seek").focus()
        found.page.keyboard.press(key)
        found.wait(f"document.getElementById('time').textContent !== '{before}'")
        time = f"{found.text('#time').replace(' ', 'T')}Z"
        summary = ask(recorded, f"summary?at={time}&host={'a' * 32}")
        assert str(summary["time"])[:19] == time[:19]
        assert found.text("#counts") == f"{summary['vms_total']} VMs, {summary['vcpus_total']} vCPUs"


def test_buttons_step_over_a_break_of_the_recording(browser: Browser, recorded: str) -> None:
    with tab(browser, recorded) as found:
        found.open(f"#at=2023-11-14T22:13:59Z&host={'a' * 32}")
        assert found.text("#time") == "2023-11-14 22:13:59"
        found.page.locator("#on").click()
        found.wait("document.getElementById('time').textContent === '2023-11-14 22:20:00'")
        found.page.locator("#back").click()
        found.wait("document.getElementById('time').textContent === '2023-11-14 22:13:59'")


def test_each_host_of_a_recording_can_be_chosen(browser: Browser, recorded: str) -> None:
    with tab(browser, recorded) as found:
        found.open()
        for host, vm in (("host-9", "a"), ("host-7", "vm-0")):
            found.page.locator("#hosts").select_option(label=host)
            found.wait(f"document.getElementById('host-name').textContent === '{host}'")
            assert vm in found.page.locator("#vm-rows a").all_inner_texts()


def test_the_past_of_a_live_host_is_called_recorded_until_live_is_pressed(browser: Browser, live: str) -> None:
    with tab(browser, live) as found:
        found.open()
        found.page.locator("#back").click()
        found.wait("document.body.dataset.mode === 'recorded'")
        found.page.locator("#go-live").click()
        found.wait("document.body.dataset.mode === 'live'")


def test_a_heat_map_has_a_table_with_the_numbers_of_the_api(browser: Browser, recorded: str) -> None:
    vm = first_vm(recorded)
    heats = ask(recorded, f"heat?vm={vm}&stat=halt_wait_hist")["heats"]
    assert isinstance(heats, list)
    with tab(browser, recorded) as found:
        found.open(f"#vm={vm}&stat=halt_wait_hist&provider=kvm")
        found.page.wait_for_selector("#stat-heat canvas")
        found.page.locator("#stat-heat summary").click()
        found.page.wait_for_selector("#stat-heat tbody tr")
        rows = [row.split("\t")[3:] for row in found.page.locator("#stat-heat tbody tr").all_inner_texts()]
    expected = [[str(count) for count in column["counts"]] for column in reversed(heats[0]["columns"])]
    assert rows == expected
    assert sum(int(cell) for row in rows for cell in row) > 0


@BOTH
def test_names_of_vms_are_text_in_every_view(browser: Browser, scheme: str, viewport: ViewportSize) -> None:
    with simulated_server(Load(vms=4, names=EVIL)) as base, tab(browser, base, viewport, scheme) as found:
        found.page.on("dialog", lambda dialog: found.faults.append(f"a dialog: {dialog.message}"))
        for vm in (each["id"] for each in vms_of(base)):
            for place in (f"#vm={vm}", f"#vm={vm}&stat=exits&provider=kvm", ""):
                found.open(place)
                assert found.page.evaluate("document.querySelectorAll('main img, main script').length") == 0
                assert "\x1b" not in found.text("body")
                assert "\u202e" not in found.text("body")
        assert EVIL[0] in found.page.locator("#vm-rows a").all_inner_texts()


def vms_of(base: str) -> list[dict[str, object]]:
    vms = ask(base, "vms")["vms"]
    assert isinstance(vms, list)
    return vms


def test_a_vm_that_the_table_has_no_room_for_is_found_by_its_name(browser: Browser) -> None:
    with simulated_server(Load(vms=40, vcpus=1)) as base, tab(browser, base) as found:
        found.open()
        shown = set(found.page.locator("#vm-rows a").all_inner_texts())
        hidden = next(name for name in (f"vm-{row}" for row in range(10, 40)) if name not in shown)
        found.page.locator("#vm-filter").fill(hidden)
        # An update may give the VM a place in the table.
        found.page.locator("#vm-found a, #vm-rows a", has_text=hidden).first.click()
        found.wait(f"document.getElementById('subject-name').textContent === '{hidden}'")


def test_a_mistyped_time_says_what_was_expected(browser: Browser, recorded: str) -> None:
    with tab(browser, recorded) as found:
        found.open()
        found.page.locator("#go-time").fill("teatime")
        found.page.keyboard.press("Enter")
        found.page.wait_for_selector("#note", state="visible")
        assert "14:05" in found.text("#note")
        found.faults.clear()  # the browser logs the status 404 of the answer


def test_pages_are_the_same_after_a_screenshot(browser: Browser, live: str, tmp_path: Path) -> None:
    """Nothing moves the layout once it is there: a chart has its height before its data."""
    with tab(browser, live) as found:
        found.page.goto(live)
        height = found.page.evaluate("document.getElementById('charts').offsetHeight")
        found.page.wait_for_selector("body[data-ready]")
        assert found.page.evaluate("document.getElementById('charts').offsetHeight") == pytest.approx(height, abs=40)
