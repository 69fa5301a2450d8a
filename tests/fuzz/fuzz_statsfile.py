#!/usr/bin/env python3
"""Coverage-guided fuzzing of the stats file codec, by atheris (libFuzzer).

    python tests/fuzz/fuzz_statsfile.py -max_total_time=60 tests/data/fuzz/statsfile

Law: any bytes are a stats file or a FormatError, nothing else. What parses is whole: it can be encoded and read back
the same, every stat has a value, and its schema and promises can be asked for.
The corpus is what fuzzing found worth keeping; test_fuzz_corpus.py replays it. To add to it, fuzz into a directory of
its own and merge: ``-merge=1 tests/data/fuzz/statsfile NEW`` (libFuzzer then runs this file itself as a program).
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def make_law() -> Callable[[bytes], None]:
    """The law as a function of any bytes; the codec is imported here, so that the fuzzer can instrument it."""
    from kvmscope.codec.statsfile import encode, parse, parse_description, violations
    from kvmscope.errors import FormatError
    from kvmscope.schema import Scope

    def law(data: bytes) -> None:
        try:
            description = parse_description(data)
        except FormatError:
            description = None
        try:
            file = parse(data)
        except FormatError:
            return
        assert file.description == description
        assert parse(encode(file)) == file
        assert file.schema("kvm", Scope.VM).words == len(file.words())
        for name in file.schema("kvm", Scope.VM).names:
            file[name]
        assert all(line.isprintable() for line in violations(file.description))

    return law


def main() -> None:
    import atheris
    import numpy as np  # noqa: F401 - before the instrumentation, which is for our code alone

    with atheris.instrument_imports(include=["kvmscope"]):
        law = make_law()
    atheris.Setup(sys.argv, law)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
