"""The corpus that fuzzing left keeps the law without a fuzzer."""

from __future__ import annotations

import runpy
from pathlib import Path

from kvmscope.codec.statsfile import parse
from kvmscope.errors import FormatError

CORPUS = Path(__file__).parent.parent / "data" / "fuzz" / "statsfile"
INPUTS = sorted(path for path in CORPUS.iterdir() if path.is_file())


def test_every_input_of_the_corpus_is_a_stats_file_or_a_format_error() -> None:
    law = runpy.run_path(str(Path(__file__).parent / "fuzz_statsfile.py"))["make_law"]()
    for path in INPUTS:
        try:
            law(path.read_bytes())
        except Exception as error:
            error.add_note(f"corpus file {path.name}")
            raise


def test_the_corpus_has_both_files_that_parse_and_files_that_do_not() -> None:
    errors = set()
    parsed = 0
    for path in INPUTS:
        try:
            parse(path.read_bytes())
        except FormatError as error:
            errors.add(error.what)
        else:
            parsed += 1
    assert parsed >= 10
    assert errors >= {"header", "id block", "descriptor block", "data block", "stat name", "stat size", "bucket size"}
