"""The columns of the raw relations that hold the words of a stat, for scenes with the same blocks.

Scenes of several kernels have several sets of blocks, and a formula is resolved for each (``BlockSet.descriptors``).
Rule: the first schema that has a stat defines it. Columns of the same name with a different descriptor are not read, as
in ``analysis.window.find_column``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..analysis.window import agree
from ..formula.resolved import ScopedStat
from ..schema import Descriptor, Schema, Scope
from ..store.documents import DocumentReader
from ..store.names import column_names, schema_column
from .relational import Apply, Function, Literal, Ref, Scalar, apply, equal, when

ROW = "r"
"""The alias of the raw relation."""


@dataclass(frozen=True)
class PlacedSchema:
    """The schema of a block. ``key``: of its document. ``lane``: of its columns."""

    key: str
    lane: int
    schema: Schema

    @property
    def place(self) -> str:
        """Its name in the ``blocks`` of a scene."""
        return f"{self.key}~{self.lane}"

    @cached_property
    def columns(self) -> Mapping[int, str]:
        """The column of each word."""
        return {word: column for column, word in column_names(self.schema, self.lane)}


@dataclass(frozen=True)
class BlockSet:
    """The blocks of a scene, in their order."""

    blocks: tuple[PlacedSchema, ...]

    @cached_property
    def descriptors(self) -> Mapping[tuple[str, Scope, str], Descriptor]:
        """Each stat as the first schema that has it describes it."""
        found: dict[tuple[str, Scope, str], Descriptor] = {}
        for block in self.blocks:
            for descriptor in block.schema.descriptors:
                found.setdefault((block.schema.provider, block.schema.scope, descriptor.name), descriptor)
        return found

    @property
    def text(self) -> str:
        """The ``blocks`` of a scene as one text."""
        return " ".join(block.place for block in self.blocks)

    def words(self, stat: ScopedStat, like: Descriptor) -> tuple[Scalar, ...]:
        """The words of a stat in each row, NULL for a subject without the stat."""
        lanes: dict[int, list[PlacedSchema]] = {}
        for block in self._of(stat.provider, stat.scope):
            lanes.setdefault(block.lane, []).append(block)
        found = [each for lane in sorted(lanes, reverse=True) if (each := _of_lane(lanes[lane], stat.name, like))]
        if len(found) == 1:
            return found[0]
        return _first_known(found)

    def _of(self, provider: str, scope: Scope) -> Iterator[PlacedSchema]:
        return (block for block in self.blocks if (block.schema.provider, block.schema.scope) == (provider, scope))


def _of_lane(blocks: list[PlacedSchema], name: str, like: Descriptor) -> tuple[Scalar, ...] | None:
    """The words in one lane; None if no schema of the lane has the stat."""
    having = [block for block in blocks if name in block.schema]
    those = [block for block in having if agree(block.schema[name], like)]
    ways: dict[tuple[Scalar, ...], list[PlacedSchema]] = {}
    for block in those:
        ways.setdefault(_in_columns(block, name), []).append(block)
    if not ways:
        return None
    if len(ways) == 1 and len(those) == len(blocks if like.bit is not None else having):
        return next(iter(ways))
    options = [tuple(when(_is_by(way_blocks), word) for word in words) for words, way_blocks in ways.items()]
    return (
        options[0]
        if len(options) == 1
        else tuple(Apply(Function.COALESCE, each) for each in zip(*options, strict=True))
    )


def _first_known(ways: list[tuple[Scalar, ...]]) -> tuple[Scalar, ...]:
    """For each word, the first alternative that is not NULL."""
    return tuple(Apply(Function.COALESCE, options) for options in zip(*ways, strict=True))


def _is_by(blocks: list[PlacedSchema]) -> Scalar:
    """Whether one of these schemas describes the row."""
    column = Ref(schema_column(blocks[0].schema.provider, blocks[0].lane), ROW)
    condition: Scalar = equal(column, Literal(blocks[0].key))
    for block in blocks[1:]:
        condition = apply(Function.OR, condition, equal(column, Literal(block.key)))
    return condition


def _in_columns(block: PlacedSchema, name: str) -> tuple[Scalar, ...]:
    stat, first = block.schema[name], block.schema[name].offset // 8
    words = tuple(Ref(block.columns[first + at], ROW) for at in range(stat.size))
    return words if stat.bit is None else (apply(Function.BIT, words[0], Literal(stat.bit)),)


def read_block_sets(scenes: Iterable[Sequence[str]], documents: Mapping[str, str], path: str) -> tuple[BlockSet, ...]:
    """The distinct sets of blocks of scenes, from their column ``blocks`` and the documents that it names.

    RecordingError, with ``path``, if a document is missing or damaged.
    """
    reader = DocumentReader(documents, path)
    return tuple(
        BlockSet(tuple(_placed(place, reader) for place in blocks)) for blocks in dict.fromkeys(map(tuple, scenes))
    )


def _placed(place: str, reader: DocumentReader) -> PlacedSchema:
    key, _, lane = place.partition("~")
    return PlacedSchema(key, int(lane), reader.get(Schema, key))
