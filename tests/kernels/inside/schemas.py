"""Runs inside an emulated kernel: its schemas, as a schema file."""

from __future__ import annotations

from kvmscope.cli.schema_kernels import read_here
from kvmscope.codec.schema_json import encode

if __name__ == "__main__":
    print(encode(read_here()))
