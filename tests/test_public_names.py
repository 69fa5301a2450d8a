"""What ``import kvmscope`` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import kvmscope

NAMES = """
Block CatalogError Descriptor FormatError Gap Host HostView Kind KvmscopeError PermissionNeeded RecordingError Sample
Scene Schema Scope SourceError Unavailable Unit UsageError VcpuId VmId Window open_host open_recording
""".split()

LOADED = "import json, sys; import kvmscope; print(json.dumps(sorted(sys.modules)))"


def test_the_public_names_are_these() -> None:
    assert sorted(kvmscope.__all__) == NAMES
    assert len(NAMES) <= 25


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(kvmscope, name)
    assert found.__name__ == name
    assert found.__doc__
    assert not found.__doc__.startswith(f"{name}("), "a dataclass without a docstring of its own"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = kvmscope.nothing_like_it


def test_all_names_can_be_imported_at_once() -> None:
    command = [sys.executable, "-c", "from kvmscope import *; print(open_host.__name__)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "open_host\n"


def test_importing_the_package_loads_nothing_but_the_standard_library_and_itself() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "numpy" not in loaded
    assert [name for name in loaded if name.startswith("kvmscope")] == ["kvmscope"]
    fresh = subprocess.run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    added = set(loaded) - set(json.loads(fresh.stdout)) - {"kvmscope"}
    assert {name.partition(".")[0] for name in added} <= sys.stdlib_module_names


def test_importing_the_package_loads_no_typing_before_signals_can_be_handled() -> None:
    code = "import sys; sys.modules.pop('typing', None); import kvmscope; print('typing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_errors_and_schemas_can_be_used_without_numpy() -> None:
    code = "import sys, kvmscope; kvmscope.Unit.BYTES; kvmscope.KvmscopeError; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_package_is_typed() -> None:
    from importlib.resources import files

    assert files(kvmscope).joinpath("py.typed").is_file()
