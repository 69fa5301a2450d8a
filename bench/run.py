"""Runs the benchmarks and writes RESULTS.md: ``python bench/run.py [NAME…]``; with names, prints only those.

``--write NAME…`` also replaces their sections of RESULTS.md and leaves the others as they are.

Nothing here fails by the clock: a target that is missed stands in the table as missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import machine
from bench.precedence import precedence
from bench.result import Bench, table

RESULTS = Path(__file__).with_name("RESULTS.md")

BENCHES: Mapping[str, str] = {
    "reading": "Reading a host",
    "scaling": "Larger hosts",
    "memory": "Memory",
    "disturbance": "Disturbance",
    "events": "Group apicv",
    "groups": "Groups, on and off",
    "other_sources": "Other sources",
    "publishing": "Publishing",
    "findings": "Findings",
    "serving": "Serving metrics",
    "page": "The page of serve",
    "looks": "Whole looks",
    "recording": "Recordings",
    "fleet": "Fleets",
    "long_recordings": "Long recordings",
    "startup": "Start",
    "installing": "Installation",
    "top": "The screen of top",
}
"""Heading by module, each with a ``bench`` and a docstring that says how it measures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--write", action="store_true", help="with names: replace their sections of RESULTS.md")
    options = parser.parse_args()
    names = options.names
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"there is no {unknown[0]}")
    about = machine.describe()
    with precedence():
        sections = [_section(name) for name in names or BENCHES]
    if not names:
        RESULTS.write_text(_page(about, sections), encoding="utf-8")
    elif options.write:
        RESULTS.write_text(_updated(RESULTS.read_text(encoding="utf-8"), about, sections), encoding="utf-8")


def _section(name: str) -> str:
    module = import_module(f"bench.{name}")
    bench: Bench = module.bench
    load = f"Load average when it began: {os.getloadavg()[0]:.1f}."
    text = f"## {BENCHES[name]}\n\n{cleandoc(module.__doc__ or '')}\n{load}\n\n{table(bench())}\n"
    print(text, flush=True)
    return text


def _page(about: Iterable[str], sections: Iterable[str]) -> str:
    return "\n".join((_HEAD, *about, "", *sections))


def _updated(page: str, about: Iterable[str], sections: Iterable[str]) -> str:
    """The page with these sections in the place of those of the same heading, in the order of ``BENCHES``."""
    found = {section.partition("\n")[0]: section.strip() + "\n" for section in _split(page)}
    found |= {section.partition("\n")[0]: section for section in sections}
    headings = [f"## {heading}" for heading in BENCHES.values()]
    return _page(about, [found[heading] for heading in headings if heading in found])


def _split(page: str) -> Iterable[str]:
    return [f"## {part}" for part in page.split("\n## ")[1:]]


_HEAD = """\
# Results of `make bench`

Written by the benchmarks at the highest priority; sections can be of several runs. The machine at the last one:
"""


if __name__ == "__main__":
    main()
