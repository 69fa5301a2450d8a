"""A small simulated fleet, and its answers by numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from numpy_fleet import NumpyFleet

from kvmscope.lab.fleet import ANSWERS, write_fleet
from kvmscope.lab.fleet_plan import FleetSize


@pytest.fixture(scope="session")
def fleet_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fleet") / "recording"
    write_fleet(directory, FleetSize(hosts=24, vms=5, vcpus=2, samples=5))
    return directory


@pytest.fixture(scope="session")
def numpy_fleet(fleet_directory: Path) -> NumpyFleet:
    return NumpyFleet(str(fleet_directory))


@pytest.fixture(scope="session")
def planted(fleet_directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((fleet_directory / ANSWERS).read_text())["planted"]
    return found
