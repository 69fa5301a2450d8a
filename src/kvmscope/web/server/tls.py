"""TLS for the server. Certificates replaced on disk apply to the next connection."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...errors import UsageError
from .web_config import Pem, TlsSettings, file_stamp


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """The context for these settings. Raises UsageError if the files are missing or do not match each other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _as_file(settings.cert) as cert, _as_file(settings.key) as key:
            context.load_cert_chain(cert, key)
        if settings.client_auth is not ssl.CERT_NONE:
            _trust(context, settings.client_ca)
        context.minimum_version, context.maximum_version = settings.min_version, settings.max_version
        if settings.ciphers:
            context.set_ciphers(":".join(settings.ciphers))
        if settings.curve:
            context.set_ecdh_curve(settings.curve)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UsageError(f"TLS with {_name(settings.cert)} and {_name(settings.key)}: {error}") from error
    context.verify_mode = settings.client_auth
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _trust(context: ssl.SSLContext, authority: Pem | None) -> None:
    if authority is None:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    elif isinstance(authority, Path):
        context.load_verify_locations(authority)
    else:
        context.load_verify_locations(cadata=authority)


@contextlib.contextmanager
def _as_file(pem: Pem) -> Iterator[str]:
    """The path of a file with the PEM text, since Python's ssl reads certificates and keys only from files."""
    if isinstance(pem, Path):
        yield str(pem)
        return
    fd = os.memfd_create("kvmscope-pem", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem.encode())
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _name(pem: Pem) -> str:
    return str(pem) if isinstance(pem, Path) else "what the web configuration has inline"


class RotatingContext(ssl.SSLContext):
    """A context that delegates each connection to the newest context. asyncio makes connections by ``wrap_bio``.

    ``settings``: called for each connection; if it returns None or unusable files, the last context stays in use.
    """

    _settings: Callable[[], TlsSettings | None]
    _made: tuple[object, ssl.SSLContext]

    @classmethod
    def of(cls, settings: Callable[[], TlsSettings | None]) -> RotatingContext:
        """The context for changing settings. Raises UsageError if the present ones cannot be used."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._settings = settings
        first = settings()
        if first is None:
            raise UsageError("TLS needs tls_server_config in the web configuration")
        context._made = (_stamp(first), make_context(first))
        return context

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._newest().wrap_bio(*arguments, **options)

    def _newest(self) -> ssl.SSLContext:
        settings = self._settings()
        if settings is not None and _stamp(settings) != self._made[0]:
            with contextlib.suppress(UsageError):  # a key is often replaced a moment after its certificate
                self._made = (_stamp(settings), make_context(settings))
        return self._made[1]


def _stamp(settings: TlsSettings) -> object:
    return settings, file_stamp(settings.files)


def alternative_names(certificate: Any) -> frozenset[str]:
    """The DNS names, IP addresses, URIs and mail addresses in a peer's certificate."""
    return frozenset(name for _, name in (certificate or {}).get("subjectAltName", ()))
