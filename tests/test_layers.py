"""The layer rule: by the contract over all sources, and by what importing each room really loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "src/kvmscope"
CONFIG = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACT, PURE = CONFIG["tool"]["importlinter"]["contracts"]
ROWS: list[list[str]] = [[room.strip() for room in row.split("|")] for row in CONTRACT["layers"]]
ROOMS = [room for row in ROWS for room in row]

FACES = {"click", "rich"}
SERVER = {"starlette", "uvicorn", "bcrypt", "isal"}
RECORDINGS: dict[str, set[str]] = {room: {"pyarrow"} for room in ("store", "engines", "capture", "lab")}
BESIDE_NUMPY = {
    "cli": FACES,
    "terminal": FACES,
    "console": {"click"},
    "tui": {"rich", "textual"},
    "web": SERVER,
    **RECORDINGS,
}
THIRD_PARTY = {room: {"numpy"} | BESIDE_NUMPY.get(room, set()) for room in ROOMS}
"""What importing all of a room may load; qemu.qmp is imported only where it is used."""

NO_IO = ("codec", "analysis", "view", "formula", "sample", "schema", "errors", "units", "closing")
OUTSIDE = set(
    "asyncio concurrent ctypes fcntl fileinput glob http importlib io linecache logging mmap multiprocessing os "
    "pathlib random secrets select selectors shutil signal socket sqlite3 ssl subprocess tempfile termios threading "
    "time urllib zipfile".split()
)
CALLS_OUTSIDE = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}
"""Functions of Python that need no import."""
LOCKS = {"analysis/evaluate.py"}
"""Modules that may have a lock: what they keep is shared by windows of several threads."""

LOAD = """
import json, sys
before = set(sys.modules)
from importlib import import_module
for name in json.loads(sys.argv[1]):
    import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_of(room: str) -> list[str]:
    """Every module of a room, but those that are programs."""
    place = PACKAGE / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    parts = (file.relative_to(PACKAGE.parent).with_suffix("").parts for file in files)
    return [".".join(names).removesuffix(".__init__") for names in parts if names[-1] != "__main__"]


def loaded_by(*modules: str) -> list[str]:
    """What a fresh interpreter has in ``sys.modules`` after importing these, and had not before."""
    command = [sys.executable, "-c", LOAD, json.dumps(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return loaded


def rooms_in(loaded: list[str]) -> set[str]:
    return {name.split(".")[1] for name in loaded if name.startswith("kvmscope.")}


def third_party_in(loaded: list[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"kvmscope"}
    return {top for top in tops if _is_installed(top) and not top.startswith("_sysconfigdata")}  # Python's own


def _is_installed(top: str) -> bool:
    """Has a package or module of its own, unlike the parts that others make at run time."""
    return any((Path(place) / top).is_dir() or (Path(place) / f"{top}.py").is_file() for place in sys.path if place)


def test_every_room_of_the_package_has_a_row() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert found - {"__init__", "__main__"} == set(ROOMS)


def test_the_contract_over_all_imports_is_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([lint, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_no_room_but_those_below(room: str) -> None:
    row = next(number for number, rooms in enumerate(ROWS) if room in rooms)
    below = {lower for rooms in ROWS[row + 1 :] for lower in rooms}
    loaded = loaded_by(*modules_of(room))
    assert room in rooms_in(loaded)
    assert rooms_in(loaded) <= below | {room}


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_third_party_packages_only_where_they_may_be(room: str) -> None:
    assert third_party_in(loaded_by(*modules_of(room))) <= THIRD_PARTY[room] | _needs_of_faces(room)


def _needs_of_faces(room: str) -> set[str]:
    """What the packages of faces themselves load."""
    of_textual = {"linkify_it", "uc_micro", "platformdirs", "typing_extensions", "mdit_py_plugins"}
    of_rich = {"markdown_it", "mdurl", "pygments"}
    of_uvicorn = {"anyio", "click", "h11", "idna", "sniffio", "typing_extensions"}
    return {"cli": of_rich, "terminal": of_rich, "tui": of_rich | of_textual, "web": of_uvicorn}.get(room, set())


def test_a_third_party_package_would_be_noticed() -> None:
    assert third_party_in(loaded_by("numpy", "json")) == {"numpy"}


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_imports_the_lab_but_the_commands_that_are_for_it(room: str) -> None:
    importers = {path.stem for path in _files_of(room) if "lab" in set(_imported_rooms(path))}
    if room != "lab":
        assert {name.partition("_")[0] for name in importers} <= ({"lab", "demo"} if room == "cli" else set())


@pytest.mark.parametrize("room", PURE["source_modules"])
def test_what_judges_and_what_is_told_load_nothing_that_reads(room: str) -> None:
    loaded = set(loaded_by(*modules_of(room.removeprefix("kvmscope."))))
    assert not set(PURE["forbidden_modules"]) & loaded
    assert loaded & set(modules_of("linux")) <= {"kvmscope.linux", "kvmscope.linux.facts"}
    readers = {name for name in modules_of("host") if _does_io(name)}
    assert readers <= set(PURE["forbidden_modules"]), "a module that reads and is not named in the contract"


def _does_io(module: str) -> bool:
    path = PACKAGE.parent / Path(*module.split(".")).with_suffix(".py")
    return path.is_file() and bool(set(_imports(path)) & (OUTSIDE | {"ctypes", "fcntl"}))


@pytest.mark.parametrize("room", NO_IO)
def test_rooms_without_io_import_nothing_that_does_it(room: str) -> None:
    for path in _files_of(room):
        may_lock = str(path.relative_to(PACKAGE)) in LOCKS
        assert not set(_imports(path)) & (OUTSIDE - {"threading"} if may_lock else OUTSIDE), path.name


@pytest.mark.parametrize("room", NO_IO)
def test_rooms_without_io_call_nothing_that_does_it(room: str) -> None:
    for path in _files_of(room):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        assert not called & CALLS_OUTSIDE, path.name


def _files_of(room: str) -> list[Path]:
    place = PACKAGE / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def _imports(path: Path) -> Iterator[str]:
    """Top-level names of the absolute imports of a file, lazy ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def _imported_rooms(path: Path) -> Iterator[str]:
    """Rooms that a file imports relatively, lazy imports included."""
    package = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [*base, *(node.module or "").split(".")] if node.module else list(base)
            yield from [names[0]] if names else [alias.name for alias in node.names]


QUESTION_WORDS = {"How", "Told", "Turn", "What", "When", "Where", "Which", "Who", "Whose", "Why"}


def test_every_class_name_occurs_once_and_is_no_question_word() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
    assert not {name.strip("_") for name in places} & QUESTION_WORDS


MOST_LINES_OF_CLI = 3000


def test_the_command_line_is_options_and_layout_alone() -> None:
    lines = {path.name: path.read_text(encoding="utf-8").count("\n") for path in (PACKAGE / "cli").glob("*.py")}
    assert sum(lines.values()) < MOST_LINES_OF_CLI, "move what a command opens, decides or waits for to tasks"
