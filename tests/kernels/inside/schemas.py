"""Runs inside an emulated kernel: its schemas, as a schema file."""

from __future__ import annotations

from kvmscope.codec.schema_json import encode
from kvmscope.tasks.kernels import read_here

if __name__ == "__main__":
    print(encode(read_here()))
