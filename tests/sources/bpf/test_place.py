"""Where the iterator is attached."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.errors import Unavailable
from kvmscope.sources.bpf.place import directory_in, require_attached


def test_where_nothing_is_attached_the_remedy_is_to_attach(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nothing is attached") as raised:
        require_attached(tmp_path)
    assert raised.value.remedy == "as root: kvmscope attach"
    assert raised.value.path == str(directory_in(tmp_path))


def test_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    with pytest.raises(Unavailable, match=r"of another version \(v1\)"):
        require_attached(tmp_path)


def test_a_directory_of_this_version_is_enough(tmp_path: Path) -> None:
    directory_in(tmp_path).mkdir()
    require_attached(tmp_path)
