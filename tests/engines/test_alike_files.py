"""Files with the same columns are found by the bytes of their footers, whatever the columns are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmscope.engines.alike_files import alike_files

TYPES = {"int64": pa.int64(), "uint64": pa.uint64(), "string": pa.string(), "list": pa.list_(pa.string())}
columns = st.dictionaries(
    st.sampled_from(["exits", "kvm.exits", "kvm.exits.1", "kvm.exits.10", "é", "x" * 127, "x" * 128]),
    st.sampled_from(sorted(TYPES)),
    min_size=1,
)


def written(path: Path, names: Sequence[tuple[str, str]]) -> str:
    arrays = {name: pa.array([None, None], TYPES[kind]) for name, kind in names}
    pq.write_table(pa.table(arrays), path, store_schema=False)
    return str(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=st.lists(st.one_of(columns, columns.map(lambda its: dict(reversed(its.items())))), min_size=2, max_size=6))
def test_files_stand_together_if_arrow_finds_the_same_columns(tmp_path: Path, made: list[dict[str, str]]) -> None:
    files = [written(tmp_path / f"{at}.parquet", list(names.items())) for at, names in enumerate([*made, *made])]
    groups = alike_files(files)
    assert sorted(file for group in groups for file in group) == sorted(files)
    schemas = [{str(pq.read_schema(file)) for file in group} for group in groups]
    assert all(len(its) == 1 for its in schemas)
    assert len({next(iter(its)) for its in schemas}) == len(groups)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all, though as long as one"])
def test_a_file_that_cannot_be_read_stands_alone(tmp_path: Path, content: bytes) -> None:
    good = [written(tmp_path / name, [("exits", "int64")]) for name in ("one.parquet", "two.parquet")]
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(content)
    assert alike_files([good[0], str(bad), good[1]]) == [good, [str(bad)]]
