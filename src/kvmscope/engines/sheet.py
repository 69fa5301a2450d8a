"""The subjects of one level with columns that are computed in stages.

Rule: a scalar that is needed in more than one place becomes a column (``hold``), so the text of a query grows with the
formula and not with the number of its paths. A column of one stage may read columns of earlier stages.
"""

from __future__ import annotations

from .relational import Literal, Named, NamedScalar, Null, Ref, Relation, RelationSource, Scalar, Select, refs


class Sheet:
    """Columns over the rows of one relation, ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: dict[Scalar, Ref] = {}
        self._stage_of: dict[str, int] = {}
        self._stages: list[list[NamedScalar]] = []

    def hold(self, scalar: Scalar) -> Scalar:
        """The scalar as a column; the same column for the same scalar."""
        if isinstance(scalar, Ref | Literal | Null):
            return scalar
        if scalar not in self._held:
            stage = 1 + max((self._stage_of.get(ref.name, 0) for ref in refs(scalar)), default=0)
            name = f"h{len(self._held)}"
            self._held[scalar] = Ref(name)
            self._stage_of[name] = stage
            self._stages.extend([] for _ in range(stage - len(self._stages)))
            self._stages[stage - 1].append(NamedScalar(name, scalar))
        return self._held[scalar]

    def steps(self, base: Relation) -> tuple[Named, ...]:
        """The relations that make the columns; the last has the name of the sheet."""
        names = [f"{self._name}_{stage}" for stage in range(len(self._stages))] + [self._name]
        steps = [Named(names[0], base)]
        for before, name, columns in zip(names, names[1:], self._stages, strict=False):
            steps.append(Named(name, Select(tuple(columns), RelationSource(before, "x"), keeps_columns=True)))
        return tuple(steps)
