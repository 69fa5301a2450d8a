"""Content negotiation: the supported format that the client's Accept header prefers.

Source: RFC 9110, 12.5.1; Prometheus' scrape protocol, in which the server lists its formats with weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from .protobuf import CONTENT_TYPE, write_protobuf
from .series import Series
from .text import TextFormat, write_text


@dataclass(frozen=True, slots=True)
class MetricsFormat:
    """A format by its media type and the parameters that a request must have; ``write`` makes its bytes."""

    media_type: str
    parameters: tuple[tuple[str, tuple[str, ...]], ...]
    content_type: str
    write: Callable[[Iterable[Series]], Iterator[bytes]]


PROMETHEUS: Final = MetricsFormat(
    "text/plain",
    (("version", ("0.0.4",)),),
    TextFormat.PROMETHEUS.value,
    partial(write_text, form=TextFormat.PROMETHEUS),
)
OPENMETRICS: Final = MetricsFormat(
    "application/openmetrics-text",
    (("version", ("1.0.0", "0.0.1")),),
    TextFormat.OPENMETRICS.value,
    partial(write_text, form=TextFormat.OPENMETRICS),
)
PROTOBUF: Final = MetricsFormat(
    "application/vnd.google.protobuf",
    (("proto", ("io.prometheus.client.MetricFamily",)), ("encoding", ("delimited",))),
    CONTENT_TYPE,
    write_protobuf,
)

FORMATS: Final = (PROTOBUF, OPENMETRICS, PROMETHEUS)
"""The supported formats, the richest first, which is chosen if a client weights several equally."""


def negotiate(accept: str) -> MetricsFormat:
    """The format for a client that sent this header; Prometheus' text if it names none."""
    best, weight = PROMETHEUS, 0.0
    for form in FORMATS:
        likes = max((likes for words, likes in _offers(accept) if _matches(form, words)), default=0.0)
        if likes > weight:
            best, weight = form, likes
    return best


def _offers(accept: str) -> Iterator[tuple[tuple[str, dict[str, str]], float]]:
    for offer in accept.split(","):
        media_type, *rest = (part.strip() for part in offer.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        yield (media_type.lower(), parameters), quality(parameters.pop("q", "1"))


def quality(text: str) -> float:
    """The weight that a client gives an offer; 0 for an offer that it does not accept."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if 0 <= number <= 1 else 0.0


def _matches(form: MetricsFormat, words: tuple[str, dict[str, str]]) -> bool:
    """Whether an offer means this format; an offer without a version means any version."""
    media_type, parameters = words
    if media_type != form.media_type:
        return False
    return all(parameters.get(name, values[0]) in values for name, values in form.parameters)
