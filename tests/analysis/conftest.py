"""The fixtures of what is judged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crafted_host import CraftedHost


@pytest.fixture
def make_host() -> Callable[..., CraftedHost]:
    return CraftedHost
