"""gzip: any program's gzip reads it, whichever library has written it."""

from __future__ import annotations

import gzip
import importlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.web.server import compression
from kvmscope.web.server.compression import accepts_gzip, gzipped

PIECES = st.lists(st.binary(max_size=100_000), max_size=20)


@given(PIECES)
def test_pieces_are_read_back_as_one_text(pieces: list[bytes]) -> None:
    assert gzip.decompress(b"".join(gzipped(pieces))) == b"".join(pieces)


def test_zlib_does_it_where_isal_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [b"kvm_vm_exits_total 1\n"] * 100_000
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "isal", None)
        packed = b"".join(importlib.reload(compression).gzipped(pieces))
    importlib.reload(compression)
    assert gzip.decompress(packed) == b"".join(pieces)
    assert len(packed) < 50_000


@pytest.mark.parametrize("header", ["gzip", "GZIP", "deflate, gzip;q=0.5", "*", "br, *;q=0.1", " gzip ; q=1 "])
def test_a_client_that_reads_gzip_is_known(header: str) -> None:
    assert accepts_gzip(header)


@pytest.mark.parametrize("header", ["", "identity", "gzip;q=0", "*;q=0", "gzip;q=0, *", "gzip;q=x", "x-gzip-not"])
def test_a_client_that_does_not_is_left_alone(header: str) -> None:
    assert not accepts_gzip(header)
