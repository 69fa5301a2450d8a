"""Prometheus' protobuf, read by Google's library with the messages of Prometheus' client_model."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "io.prometheus.client"
_KINDS = {"string": 9, "double": 1, "uint64": 4, "sint32": 17, "sint64": 18, "uint32": 13, "enum": 13}
# Source: client_model, io/prometheus/client/metrics.proto. A * is repeated; a name in capitals is a message.
MESSAGES = {
    "LabelPair": "name=1:string value=2:string",
    "Number": "value=1:double",
    "Bucket": "cumulative_count=1:uint64 upper_bound=2:double",
    "BucketSpan": "offset=1:sint32 length=2:uint32",
    "Histogram": "sample_count=1:uint64 sample_sum=2:double *bucket=3:Bucket schema=5:sint32 zero_threshold=6:double "
    "zero_count=7:uint64 *positive_span=12:BucketSpan *positive_delta=13:sint64",
    "Metric": "*label=1:LabelPair gauge=2:Number counter=3:Number untyped=5:Number histogram=7:Histogram",
    "MetricFamily": "name=1:string help=2:string type=3:enum *metric=4:Metric",
}


@cache
def family_class() -> Any:
    """The class of the message MetricFamily."""
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            words, kind = field.removeprefix("*").split(":")
            name_, number = words.split("=")
            added = message.field.add(name=name_, number=int(number), label=3 if field.startswith("*") else 1)
            if kind in _KINDS:
                added.type = _KINDS[kind]  # type: ignore[assignment]
            else:
                added.type, added.type_name = 11, f".{PACKAGE}.{kind}"  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.MetricFamily"))


def parse_families(data: bytes) -> list[Any]:
    """Messages, each behind its length."""
    found = []
    while data:
        length, shift = 0, 0
        while True:
            byte, data = data[0], data[1:]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(family_class().FromString(data[:length]))
        data = data[length:]
    return found
