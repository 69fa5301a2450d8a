"""Groups of users by name and number."""

from __future__ import annotations

import grp

import pytest

from kvmscope.errors import UsageError
from kvmscope.linux.usergroups import find_group, group_of


def test_a_group_is_found_by_name_and_by_number() -> None:
    root = grp.getgrgid(0)
    assert find_group(root.gr_name) == find_group("0") == group_of(0) == root


@pytest.mark.parametrize("name", ["", "nobody-is-called-so", "٠", "-1", "4294967296", "9" * 30])
def test_a_group_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="there is no group"):
        find_group(name)


def test_a_number_without_a_group_is_called_by_its_number() -> None:
    unused = max(entry.gr_gid for entry in grp.getgrall() if entry.gr_gid < 60_000) + 1
    assert group_of(unused).gr_name == str(unused)
