"""Stock distribution kernels for tests: boot one in emulation, with AVIC forced on, and run a command inside.

KVM is real there: its files, statistics, inhibit reasons, events and types. Interrupt delivery by AVIC and time are
not. docs/reference/kernels.md says what a test may and may not conclude.
Rule: nothing is installed, no state of this machine's package manager is touched, and every run has an end.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import kvmscope

from ..console.temporary import OwnedDirectory
from ..errors import Unavailable, UsageError
from .emulate import Boot, KernelFailed, Result, run_boot
from .initramfs import (
    Entry,
    Module,
    directory,
    encode_cpio,
    init_script,
    module_name,
    order_modules,
    read_module,
    regular,
    run_script,
)
from .kernel_catalog import KernelSpec, find_kernel, kernel_names, load_catalog
from .kernel_packages import Apt, kernel_closure, unpack_deb
from .userland import Userland, build_userland, iter_files, package_files, replacing

__all__ = ["KernelFailed", "Prepared", "Result", "kernel_names", "prepare", "run"]

_AVIC_ON = {"avic": "1", "force_avic": "1"}
_AVIC_OFF = {"avic": "0"}
_UNKNOWN_PARAMETER = re.compile(r"(\w+): unknown parameter '(\w+)' ignored")
_COMMAND = b'#!/bin/sh\nexec python3 -m kvmscope "$@"\n'


@dataclass(frozen=True, slots=True)
class Prepared:
    """A kernel that is ready to boot."""

    spec: KernelSpec
    release: str
    """As ``uname -r`` prints it."""
    image: Path
    modules: tuple[Path, ...]
    """Uncompressed modules, in load order."""
    userland: Userland


def cache_folder() -> Path:
    """The directory of kernels and userlands: ``kvmscope/kernels`` in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmscope" / "kernels"


def prepare(name: str, *, fresh: bool = False) -> Prepared:
    """Make a kernel ready to boot: from the cache, or (also if ``fresh``) from the newest packages.

    Raises UsageError for a name that is not listed, Unavailable if a package or tool is missing.
    """
    spec = find_kernel(name)
    cache = cache_folder()
    with _locked(cache):
        userland = build_userland(load_catalog()[1], arch=spec.arch, cache=cache, fresh=fresh)
        place = cache / f"kernel-{name}"
        if fresh or not place.exists() or (place / "spec").read_text(encoding="utf-8") != repr(spec):
            with replacing(place) as partial:
                _unpack_kernel(spec, partial)
    modules = tuple(place / "modules" / line for line in _lines(place / "modules.order"))
    return Prepared(spec, _lines(place / "release")[0], place / "vmlinuz", modules, userland)


def run(
    name: str,
    argv: Sequence[str],
    *,
    avic: bool = True,
    module_parameters: Sequence[str] = (),
    put: Mapping[str, Path | bytes] | None = None,
    get: Sequence[str] = (),
    memory_mb: int = 1024,
    timeout_s: float = 300,
    even_clock: bool = False,
    kernel_parameters: str = "",
) -> Result:
    """Boot a kernel, run a command in it as root with this package on its path, and return its result.

    ``module_parameters`` are ``MODULE.NAME=VALUE``; ``put`` has the contents for absolute paths of the guest (a file, a
    directory, or bytes); ``get`` lists guest files to return; ``timeout_s`` is real time for the whole run.
    ``even_clock``: see ``emulate.Boot``. ``kernel_parameters`` go to the end of the kernel's command line.
    Raises UsageError for an unknown kernel or parameter, Unavailable if the kernel cannot be fetched, KernelFailed if
    it panicked, hung or ended without an answer.
    """
    _check_absolute([*(put or {}), *get])
    parameters = _merge_parameters(find_kernel(name), avic=avic, given=module_parameters)
    prepared = prepare(name)
    boot = Boot(
        arch=prepared.spec.arch,
        kernel=prepared.image,
        initramfs=_build_initramfs(prepared, argv, parameters, put=put or {}, get=get),
        disk=prepared.userland.image,
        append=f"{_built_in_parameters(prepared, parameters)} {kernel_parameters}".strip(),
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        even_clock=even_clock,
    )
    result = run_boot(boot)
    unknown = _UNKNOWN_PARAMETER.search(result.kernel_log)
    if unknown and unknown[2] in parameters.get(unknown[1], {}):
        raise UsageError(f"module {unknown[1]} of {result.release} has no parameter {unknown[2]!r}")
    return result


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack_kernel(spec: KernelSpec, partial: Path) -> None:
    """Unpack the parts of a kernel's packages that a boot needs: the image and a few modules, 15 MB of 300."""
    with OwnedDirectory("kernel") as folder:
        scratch = folder.path
        apt = Apt(scratch / "apt", arch=spec.arch, suites=spec.suites)
        apt.update()
        packages = kernel_closure(apt.show, spec.package)
        if not packages or not re.match(re.escape(spec.series) + r"\D", packages[0].version):
            there = packages[0].version if packages else "no kernel of this name"
            raise Unavailable(f"{spec.suites[-1]} no longer has a {spec.series} kernel; it has {there}")
        for deb in apt.download(packages, into=scratch / "debs"):
            unpack_deb(deb, into=scratch / "tree")
        _keep_kernel(spec, scratch / "tree", partial)


def _keep_kernel(spec: KernelSpec, tree: Path, partial: Path) -> None:
    folder = next(path for path in (*tree.glob("usr/lib/modules/*"), *tree.glob("lib/modules/*")) if path.is_dir())
    image = next(path for path in (folder / "vmlinuz", tree / "boot" / f"vmlinuz-{folder.name}") if path.exists())
    files = {module_name(path.name): path for path in folder.rglob("*.ko*")}

    def load(name: str) -> Module | None:
        return read_module(files[name].name, files[name].read_bytes()) if name in files else None

    modules = order_modules(spec.modules, load)
    (partial / "modules").mkdir()
    for module in modules:
        (partial / "modules" / f"{module.name}.ko").write_bytes(module.data)
    (partial / "modules.order").write_text("".join(f"{module.name}.ko\n" for module in modules), encoding="utf-8")
    (partial / "vmlinuz").write_bytes(image.read_bytes())
    (partial / "release").write_text(folder.name + "\n", encoding="utf-8")
    (partial / "spec").write_text(repr(spec), encoding="utf-8")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _check_absolute(paths: Sequence[str]) -> None:
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f"{path!r} is not an absolute path of the guest")


def _merge_parameters(spec: KernelSpec, *, avic: bool, given: Sequence[str]) -> dict[str, dict[str, str]]:
    merged = {"kvm_amd": dict(_AVIC_ON if avic else _AVIC_OFF)} if spec.has_apicv else {}
    for text in given:
        found = re.fullmatch(r"([\w-]+)\.([\w-]+)=(\S*)", text)
        if found is None:
            raise UsageError(f"{text!r} is not MODULE.NAME=VALUE")
        merged.setdefault(found[1].replace("-", "_"), {})[found[2]] = found[3]
    return merged


def _built_in_parameters(prepared: Prepared, parameters: Mapping[str, Mapping[str, str]]) -> str:
    """The parameters of built-in modules, for the kernel's command line."""
    loaded = {path.stem for path in prepared.modules}
    return " ".join(
        f"{module}.{name}={value}"
        for module, values in parameters.items()
        if module not in loaded
        for name, value in values.items()
    )


def _build_initramfs(
    prepared: Prepared,
    argv: Sequence[str],
    parameters: Mapping[str, Mapping[str, str]],
    *,
    put: Mapping[str, Path | bytes],
    get: Sequence[str],
) -> bytes:
    arguments = {
        module: " ".join(f"{name}={value}" for name, value in values.items()) for module, values in parameters.items()
    }
    init = init_script([path.stem for path in prepared.modules], arguments)
    return encode_cpio(
        [
            *map(directory, ("dev", "proc", "sys", "root")),
            regular("bin/busybox", prepared.userland.busybox.read_bytes(), executable=True),
            regular("init", init.encode(), executable=True),
            *(regular(f"modules/{path.name}", path.read_bytes()) for path in prepared.modules),
            regular("layer/sbin/kvmscope-run", run_script(argv, get).encode(), executable=True),
            regular("layer/usr/local/bin/kvmscope", _COMMAND, executable=True),
            *_package_entries(),
            *(entry for path, what in put.items() for entry in _put_entries(path, what)),
        ]
    )


def _package_entries() -> Iterator[Entry]:
    package = Path(kvmscope.__file__).parent
    with _locked(cache_folder()):
        files = package_files(package, spec=load_catalog()[1], cache=cache_folder())
    for name, data in files.items():
        yield regular(f"layer/opt/kvmscope/{name}", data)


def _put_entries(guest: str, what: Path | bytes) -> Iterator[Entry]:
    target = f"layer/{guest.strip('/')}"
    if isinstance(what, bytes):
        yield regular(target, what)
    elif what.is_dir():
        for path in iter_files(what):
            yield regular(f"{target}/{path.relative_to(what)}", path.read_bytes(), executable=os.access(path, os.X_OK))
    else:
        yield regular(target, what.read_bytes(), executable=os.access(what, os.X_OK))
