"""The names of the relations that queries read: recordings of one or many hosts, as tables of an engine.

The columns are those of docs/reference/recordings.md and, in every relation, ``host``, the partition. The function that
opens an engine creates the relations: views over Parquet files in DuckDB, tables in ClickHouse.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ..schema import Scope

RAW: Final = "raw"
"""The schema (DuckDB) or database (ClickHouse) of the relations."""


class RawTable(Enum):
    """The relations, by their names in ``RAW``."""

    SCENES = "scenes"
    DOCUMENTS = "documents"
    VMS = "vms"
    VCPUS = "vcpus"


SUBJECTS: Final = {Scope.VM: RawTable.VMS, Scope.VCPU: RawTable.VCPUS}
"""The relation with a row for each subject of a scope in each scene."""

SUBJECT_KEY: Final = {Scope.VM: ("vm",), Scope.VCPU: ("vm", "vcpu")}
"""The columns that name a subject on one boot of one host."""
