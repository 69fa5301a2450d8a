"""Queries a store with the HTTP API of Prometheus: Prometheus, Thanos, Mimir, VictoriaMetrics and others.

A store that cannot be reached or refuses is a ``SourceError`` with a remedy; an answer that does not have the API's
format is a ``FormatError``. Warnings of the store, such as a partial answer, come with the samples.
Source: Prometheus, "HTTP API": ``/api/v1/query``, ``/api/v1/query_range``, "Format overview".
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from ...errors import FormatError, PermissionNeeded, SourceError, Unavailable, UsageError

_ANSWER: Final = "the answer of the store"
_LARGEST_ANSWER_BYTES: Final = 256 << 20
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """The address of a store and the credentials. ``url``: with the path before ``/api/v1``, as
    ``https://mimir/prometheus``.

    ``ca_file``: certificates to trust instead of the system's. ``client_cert_file``: with its key, for a store that
    requires one. ``headers``: such as the tenant of a multi-tenant store.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class StoreSample:
    """One number of one series. ``time_s``: Unix time of the evaluation."""

    labels: Mapping[str, str]
    time_s: float
    value: float


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """The result of a query. ``warnings``: of the store, untrusted text; if there is any, the result may be
    incomplete."""

    samples: tuple[StoreSample, ...]
    warnings: tuple[str, ...] = ()


class PrometheusStore:
    """A store. Nothing is kept open between queries."""

    def __init__(self, access: StoreAccess) -> None:
        """Raises UsageError if the URL is not an HTTP URL, SourceError if a certificate file cannot be read."""
        self._access, self._base = _without_user(access)
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_tls(self._access)))

    def query(self, expression: str, *, at_s: float | None = None) -> StoreAnswer:
        """Evaluate an instant query, by default now."""
        return self._ask("query", {"query": expression} | ({} if at_s is None else {"time": f"{at_s:.3f}"}))

    def query_range(self, expression: str, *, begin_s: float, end_s: float, step_s: float) -> StoreAnswer:
        """Evaluate a query at each step of a range, both ends included."""
        times = {"start": f"{begin_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        return self._ask("query_range", {"query": expression} | times)

    def _ask(self, what: str, parameters: Mapping[str, str]) -> StoreAnswer:
        body = urllib.parse.urlencode(parameters).encode()
        request = urllib.request.Request(f"{self._base}/api/v1/{what}", body, self._headers())
        try:
            with self._opener.open(request, timeout=self._access.timeout_s) as answer:
                return read_answer(answer.read(_LARGEST_ANSWER_BYTES + 1))
        except urllib.error.HTTPError as error:
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _headers(self) -> dict[str, str]:
        access = self._access
        found = {"Accept": "application/json", **access.headers}
        if access.bearer_token is not None:
            found["Authorization"] = f"Bearer {access.bearer_token}"
        elif access.username is not None:
            pair = f"{access.username}:{access.password or ''}"
            found["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return found

    def _refused(self, error: urllib.error.HTTPError) -> SourceError:
        said = _error_text(error.read(_LARGEST_ANSWER_BYTES))
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            remedy = "give a user and password or a token of the store"
            return PermissionNeeded(f"{self._base} refuses: {error.code} {said}", remedy=remedy, path=self._base)
        if error.code == HTTPStatus.NOT_FOUND:
            remedy = "check the path of the URL, which ends before /api/v1: Mimir has /prometheus, VictoriaMetrics none"
            return Unavailable(f"{self._base} has no Prometheus API: 404", remedy=remedy, path=self._base)
        return Unavailable(f"{self._base} did not answer the query: {error.code} {said}", path=self._base)

    def _unreachable(self, error: Exception) -> SourceError:
        reason = getattr(error, "reason", None) or error
        why = f"no answer within {self._access.timeout_s:g} s" if isinstance(reason, TimeoutError) else str(reason)
        remedy = (
            "check the URL, and that the store is running; `curl URL/api/v1/query?query=up` asks it without kvmscope"
        )
        if isinstance(reason, ssl.SSLCertVerificationError):
            remedy = "give the certificate of the authority that signed the store's"
        return Unavailable(f"{self._base} cannot be reached: {why}", remedy=remedy, path=self._base)


def read_answer(body: bytes) -> StoreAnswer:
    """The samples of an answer in the API's JSON: a vector, a matrix or a scalar. Raises FormatError for anything
    else."""
    if len(body) > _LARGEST_ANSWER_BYTES:
        raise _broken("at most 256 MiB", "more")
    root = _parse(body)
    if root.get("status") != "success" or not isinstance(root.get("data"), dict):
        raise _broken('"status": "success" with "data"', json.dumps(root)[:_SHOWN])
    try:
        samples = tuple(_samples(root["data"]["resultType"], root["data"]["result"]))
        warnings = tuple(map(str, root.get("warnings") or ()))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _broken("a vector, a matrix or a scalar", f"{type(error).__name__}: {error}"[:_SHOWN]) from error
    return StoreAnswer(samples, warnings)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        root = json.loads(body)
    except (ValueError, RecursionError) as error:
        at = getattr(error, "pos", 0)
        raise FormatError(_ANSWER, offset=at, expected="JSON", got=repr(body[at : at + 40])) from error
    if not isinstance(root, dict):
        raise _broken("an object", type(root).__name__)
    return root


def _broken(expected: str, got: str) -> FormatError:
    return FormatError(_ANSWER, offset=0, expected=expected, got=got)


def _samples(kind: str, result: Sequence[Any]) -> list[StoreSample]:
    match kind:
        case "scalar":
            return [_sample({}, result)]
        case "vector":
            return [_sample(series["metric"], series["value"]) for series in result if "value" in series]
        case "matrix":
            return [_sample(series["metric"], pair) for series in result for pair in series.get("values", ())]
    raise ValueError(f"result type {kind!r}")


def _sample(labels: Mapping[str, str], pair: Sequence[Any]) -> StoreSample:
    time_s, text = pair
    value = float(text)
    if not isinstance(time_s, int | float) or not math.isfinite(time_s):
        raise ValueError(f"time {time_s!r}")
    return StoreSample({str(name): str(value) for name, value in labels.items()}, float(time_s), value)


def _error_text(body: bytes) -> str:
    """The store's error text in the API's format, else the first part of the body."""
    try:
        return str(json.loads(body)["error"])[:_SHOWN]
    except (ValueError, LookupError, TypeError, RecursionError):
        return body[:_SHOWN].decode("utf-8", "replace").strip()


def _without_user(access: StoreAccess) -> tuple[StoreAccess, str]:
    """The access with username and password taken from the URL, and the URL without them."""
    try:
        parts = urllib.parse.urlsplit(access.url)
        is_right = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise UsageError(f"{access.url!r} is not a URL such as http://prometheus:9090")
    place = parts.netloc.rpartition("@")[2]
    base = urllib.parse.urlunsplit((parts.scheme, place, parts.path.rstrip("/").removesuffix("/api/v1"), "", ""))
    if parts.username is None or access.username is not None:
        return access, base
    user, password = (urllib.parse.unquote(text or "") for text in (parts.username, parts.password))
    return replace(access, username=user, password=password), base


def _tls(access: StoreAccess) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
        if access.client_cert_file is not None:
            context.load_cert_chain(access.client_cert_file)
    except (OSError, ssl.SSLError) as error:
        path = str(access.ca_file or access.client_cert_file)
        raise SourceError(f"{path}: {error}", remedy="give a file of certificates in PEM", path=path) from error
    return context
