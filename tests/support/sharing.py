"""Which tests run side by side when ``make test`` gives each CPU a worker (pytest-xdist).

The tests of a file stay together, as they share its fixtures. Those inside emulated kernels stay together, as they
share boots, and come first, as they take longest. Tests of the whole host, in tests/live and elsewhere, come late, in
one worker, those in tests/live last: by then the others have nothing left to do, and two vCPUs that are to meet have
two CPUs. Beside the first of them run those that only compute.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[2]
KERNELS, HOST = "tests/kernels", "tests/live"
COMPUTING = ("tests/scene/", "tests/view/")
_OF_WHOLE_HOST = re.compile(r"\bmark\.(live|whole_host)\b")


class LoadByShare(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker all tests at once that share something: a file, the emulated kernels, the host."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadByShare:
    return LoadByShare(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _order_of(item.nodeid.partition("::")[0]))


def _order_of(file: str) -> tuple[int, bool]:
    """By share, and within that of the host with tests/live last."""
    return rank_of(share_of(file)), file.startswith(f"{HOST}/")


@cache
def share_of(file: str) -> str:
    """What the tests of a file, given from the root of the project, share with others."""
    for folder in (KERNELS, HOST):
        if file.startswith(f"{folder}/"):
            return folder
    return HOST if _OF_WHOLE_HOST.search((ROOT / file).read_text(encoding="utf-8")) else file


def rank_of(share: str) -> int:
    """The order of shares: those of one rank keep theirs."""
    return 3 if share.startswith(COMPUTING) else {KERNELS: 0, HOST: 2}.get(share, 1)
