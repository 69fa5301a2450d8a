"""Every view of a scene is also made of the scene as it comes back from bytes, and must be the same."""

from __future__ import annotations

from typing import Any

import pytest

from kvmscope.scene import Scene, decode, encode


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "Scene" in vars(metafunc.module):
        metafunc.fixturenames.append("scenes_come_from")
        metafunc.parametrize("scenes_come_from", ["host", "bytes"], indirect=True)


@pytest.fixture
def scenes_come_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the test's module make its scenes directly, or encode and decode each."""

    def from_bytes(*parts: Any) -> Scene:
        return decode(encode(Scene(*parts)))

    if request.param == "bytes":
        monkeypatch.setattr(request.module, "Scene", from_bytes)
