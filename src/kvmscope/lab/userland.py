"""The disk of an emulated kernel: Debian's Python with numpy, libbpf and pytest, for amd64 or arm64.

It is built once and kept; the package under test is not on it but is sent with each run (``package_files``).
Rule: the name of a built image is a digest of its recipe, so a changed recipe never uses an old image.
Bytecode for both architectures is compiled by the Python of this machine's own architecture, from its unpacked files:
compiling under emulation would take a minute per boot.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unavailable
from .kernel_catalog import UserlandSpec
from .kernel_packages import Apt, download_wheels, run_tool, unpack_deb, unpack_wheel

_RECIPE = 2
"""Version of the recipe; increase it when ``_fill`` changes."""
_SLACK_BYTES = 384 << 20
_SITE = "usr/lib/python3/dist-packages"
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
_NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
_DROPPED = ("usr/share", "usr/lib/{triplet}/gconv", "usr/lib/{triplet}/perl-base")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}


@dataclass(frozen=True, slots=True)
class Userland:
    """A built userland: the disk image, its shell, and its unpacked directory (None for a foreign architecture)."""

    image: Path
    busybox: Path
    tree: Path | None


def build_userland(spec: UserlandSpec, *, arch: str, cache: Path, fresh: bool = False) -> Userland:
    """The userland of an architecture, from the cache if it is there, unless ``fresh``.

    Raises Unavailable if a package or the tool that makes file systems is missing.
    """
    place = cache / f"userland-{arch}-{_digest(repr((_RECIPE, spec)).encode())}"
    if fresh or not place.exists():
        compiler = None if arch == _NATIVE else _native_tree(spec, cache)
        with replacing(place) as partial:
            _fill(partial / "tree", spec, arch=arch, scratch=partial)
            _compile(compiler or partial / "tree", partial / "tree", below=("usr/lib/python3.11", _SITE))
            _make_image(partial / "tree", partial / "image.ext4")
            shutil.copy2(partial / "tree/bin/busybox", partial / "busybox")
            if arch != _NATIVE:
                shutil.rmtree(partial / "tree")
        for old in set(cache.glob(f"userland-{arch}-*")) - {place}:
            shutil.rmtree(old)
    return Userland(place / "image.ext4", place / "busybox", place / "tree" if arch == _NATIVE else None)


def package_files(package: Path, *, spec: UserlandSpec, cache: Path) -> dict[str, bytes]:
    """The files of a Python package with their bytecode, by path relative to the directory above it."""
    sources = {str(path.relative_to(package.parent)): path.read_bytes() for path in iter_files(package)}
    parent = cache / f"package-{_digest(repr(sorted(sources.items())).encode())}"
    if not parent.exists():
        for old in cache.glob("package-*"):
            shutil.rmtree(old)
        with replacing(parent) as partial:
            for name, data in sources.items():
                target = partial / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            _compile(_native_tree(spec, cache), partial, below=(package.name,))
    return {str(path.relative_to(parent)): path.read_bytes() for path in iter_files(parent, bytecode=True)}


def iter_files(folder: Path, *, bytecode: bool = False) -> Iterator[Path]:
    """Every regular file below a folder, in order; bytecode only if ``bytecode``."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (bytecode or "__pycache__" not in path.parts):
            yield path


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """A new directory that replaces ``place`` if the block succeeds, and is removed if it fails."""
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _native_tree(spec: UserlandSpec, cache: Path) -> Path | None:
    return build_userland(spec, arch=_NATIVE, cache=cache).tree if _NATIVE else None


def _fill(tree: Path, spec: UserlandSpec, *, arch: str, scratch: Path) -> None:
    apt = Apt(scratch / "apt", arch=arch, suites=spec.suites)
    apt.update()
    for package in apt.download([apt.show(name) for name in spec.packages], into=scratch / "debs"):
        unpack_deb(package, into=tree)
    for wheel in download_wheels(spec.wheels, arch=arch, python=spec.python, into=scratch / "wheels"):
        unpack_wheel(wheel, into=tree / _SITE)
    for name in _DROPPED:
        shutil.rmtree(tree / name.format(triplet=_TRIPLETS[arch]), ignore_errors=True)
    for name in ("dev", "proc", "sys", "run", "tmp", "root", "sbin", "usr/sbin"):
        (tree / name).mkdir(exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    for name, text in _FILES.items():
        (tree / name).write_text(text, encoding="ascii")
    (tree / "usr/bin/python3").symlink_to(f"python{spec.python}")
    for done in ("apt", "debs", "wheels"):
        shutil.rmtree(scratch / done)


def _compile(python: Path | None, root: Path, *, below: tuple[str, ...]) -> None:
    if python is None or _NATIVE is None:
        return
    libraries = [python / folder / _TRIPLETS[_NATIVE] for folder in ("lib", "usr/lib")]
    loader = libraries[0] / _LOADERS[_NATIVE]
    run_tool(
        [str(loader), "--library-path", ":".join(map(str, libraries)), str(python / "usr/bin/python3.11"), "-I"]
        + ["-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "-s", str(root)]
        + [str(root / name) for name in below]
    )


def _make_image(tree: Path, image: Path) -> None:
    maker = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if maker is None:
        raise Unavailable("mkfs.ext4 is not on this machine", remedy="install e2fsprogs")
    size = sum(path.lstat().st_size for path in tree.rglob("*")) + _SLACK_BYTES
    options = ["-q", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", str(tree)]
    run_tool([maker, *options, str(image), f"{size >> 10}K"])
