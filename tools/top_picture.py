"""Makes the picture of ``kvmscope top`` in README from a simulated host: ``python tools/top_picture.py``.

It is the screen itself, exported by Textual as SVG, without the fonts that it would fetch from elsewhere. Any machine
can make it, and it has VMs with most findings; ``--live`` makes one of the VMs of this host.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from kvmscope.collect import open_host
from kvmscope.tasks.groups import list_groups
from kvmscope.tui.app import TopApp
from kvmscope.tui.board import Board
from kvmscope.tui.charset import Charset
from kvmscope.tui.pages.base import Desk
from kvmscope.tui.sampler import Sampler
from kvmscope.tui.settings import Settings, SettingsFile
from kvmscope.tui.shell import Shell

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "top.svg"
SIZE = (120, 24)
WATCHED_S = 30.0
SIMULATED = (sys.executable, "-m", "kvmscope", "lab", "simulate", "--vms", "17", "--vcpus", "4")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--live", action="store_true", help="the VMs of this host, as root")
    is_live = parser.parse_args().live
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        if not is_live:
            simulated = running.enter_context(subprocess.Popen(SIMULATED, stdout=subprocess.PIPE, text=True))
            running.callback(simulated.terminate)
            assert simulated.stdout is not None
            simulated.stdout.readline()  # it says what it simulates once that is there
        source = "auto" if is_live else "published"
        sampler = Sampler(lambda groups: open_host(source, groups), 1.0, list_groups)
        sampler.begin()
        sampler.wait_until_open()
        running.callback(sampler.stop)
        svg = asyncio.run(picture(sampler, Path(folder)))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(without_fonts(svg), encoding="utf-8")
    print(f"wrote {PICTURE}", file=sys.stderr)


async def picture(sampler: Sampler, folder: Path) -> str:
    """The screen after a while, with a VM selected."""
    file = SettingsFile(folder / "top.toml", Settings(theme="dark"))
    app = TopApp(Shell(Desk(Board(file.settings), file, sampler, Charset(), 1.0, sampler)), sampler.start)
    async with app.run_test(size=SIZE) as pilot:
        await asyncio.sleep(WATCHED_S)
        await pilot.press("down", "down")
        await pilot.pause()
        return app.export_screenshot()


def without_fonts(svg: str) -> str:
    """The picture with a font of whoever looks at it."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"font-family: [^;]*;", "font-family: monospace;", svg)


if __name__ == "__main__":
    main()
