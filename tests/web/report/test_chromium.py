"""The page in a real browser: it opens fast, runs with and without scripts, and its script does what it should."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed: make setup")

from loads import Load, simulated_scenes

from kvmscope.view.report_build import report_view
from kvmscope.web.report.page import render

OPENED_S = 1.0
TRIES = 5

# Chromium writes the page as it is after loading, so what a script found is put into the title.
TIMER = """<script>addEventListener("load", () => setTimeout(() => {
  document.title = `loaded ${performance.getEntriesByType("navigation")[0].loadEventEnd}`; }));</script>"""
HOVER = """<script>addEventListener("load", () => {
  const svg = document.querySelector("svg[data-table]"), box = svg.getBoundingClientRect();
  svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.right - 20, clientY: box.top + 20}));
  document.title = `read ${svg.querySelector("text.read").textContent}`; });</script>"""


def dom(page: str, place: Path, *options: str) -> str:
    """The page after loading, as Chromium writes it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed: Debian's package chromium")
    file = place / "report.html"
    file.write_text(page, encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    command = [chromium, *flags, f"--user-data-dir={place / 'profile'}", *options, "--dump-dom", f"file://{file}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def without_policy(page: str) -> str:
    """A page that may run the test's script too."""
    start = page.index("<meta http-equiv")
    return page[:start] + page[page.index(">", start) + 1 :]


def title_of(text: str) -> str:
    return text.partition("<title>")[2].partition("</title>")[0]


@pytest.mark.slow
def test_a_name_with_a_script_runs_nothing(tmp_path: Path) -> None:
    names = ("<script>document.title='run'</script>", "<img src=x onerror=\"document.title='run'\">", "c")
    page = render(report_view("r", simulated_scenes(5, load=Load(vms=3, names=names))))
    assert title_of(dom(page, tmp_path)).startswith("KVM report")


@pytest.mark.slow
def test_pointing_at_a_chart_reads_its_table(tmp_path: Path) -> None:
    page = without_policy(render(report_view("r", simulated_scenes(5, load=Load(vms=1)))))
    title = title_of(dom(page.replace("</body>", f"{HOVER}</body>"), tmp_path))
    assert title.startswith("read 22:13:24  ")


@pytest.mark.slow
def test_a_thousand_vms_open_within_a_second(tmp_path: Path) -> None:
    """The fastest of some tries, since other work on the machine slows the others."""
    page = without_policy(render(report_view("r", simulated_scenes(61, load=Load(vms=1000, vcpus=1)))))
    page = page.replace("</body>", f"{TIMER}</body>")
    times_s = [float(title_of(dom(page, tmp_path)).removeprefix("loaded ")) / 1000 for _ in range(TRIES)]
    assert min(times_s) <= OPENED_S, times_s
