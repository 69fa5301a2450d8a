"""The names of relations are those of the tables of a recording."""

from __future__ import annotations

from kvmscope.engines.refusal import EngineRefusal, QueryEngine
from kvmscope.engines.tables import SUBJECT_KEY, SUBJECTS, RawTable
from kvmscope.schema import Scope
from kvmscope.store.layout import RecordingTable


def test_there_is_a_relation_for_each_table_of_a_recording() -> None:
    assert {table.value for table in RawTable} == {table.value for table in RecordingTable}


def test_every_scope_has_a_relation_and_a_key() -> None:
    assert set(SUBJECTS) == set(SUBJECT_KEY) == set(Scope)


def test_a_refusal_names_engine_subject_and_reason() -> None:
    refusal = EngineRefusal(QueryEngine.PROMETHEUS, "halt_wait_p50_s", "no log interpolation")
    assert str(refusal) == "Prometheus cannot say halt_wait_p50_s: no log interpolation"
