"""What a query that a user typed may do: read the relations of the recordings, and nothing else.

The second of two looks, by another parser than the engine's own, at the whole tree: what is allowed is listed, so a
function that a later engine adds is refused until it is listed. The engine itself refuses what gets past it: DuckDB's
doors are closed (``duckdb_store``), ClickHouse's queries are read-only (``clickhouse``).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import QueryError, Unavailable
from .refusal import QueryEngine
from .tables import RAW

if TYPE_CHECKING:
    from sqlglot import exp

DIALECTS: Final[Mapping[QueryEngine, str]] = {QueryEngine.DUCKDB: "duckdb", QueryEngine.CLICKHOUSE: "clickhouse"}

_MAKERS: Final = frozenset(
    ["GENERATE_SERIES", "RANGE", "UNNEST", "EXPLODE", "NUMBERS", "VALUES", "GENERATE_SUBSCRIPTS"]
)
"""Functions that make rows of their arguments alone."""

_OUTSIDE: Final = frozenset(
    """
    CURRENT_SETTING GETENV GETVARIABLE NEXTVAL CURRVAL WRITE_LOG QUERY QUERY_TABLE JSON_EXECUTE_SERIALIZED_SQL
    FILE FILECLUSTER URL S3 S3CLUSTER REMOTE REMOTESECURE HDFS MYSQL POSTGRESQL SQLITE ODBC JDBC MONGODB REDIS
    EXECUTABLE CLUSTER CLUSTERALLREPLICAS GCS AZUREBLOBSTORAGE DELTALAKE ICEBERG HUDI INPUT MERGE DICTIONARY PYTHON VIEW
    GETSETTING GETSERVERSETTING GETMACRO FILESYSTEMAVAILABLE FILESYSTEMCAPACITY FILESYSTEMUNRESERVED HOSTNAME FQDN
    SLEEP SLEEPEACHROW THROWIF CATBOOSTEVALUATE JOINGET JOINGETORNULL DICTGET DICTGETORDEFAULT DICTGETORNULL
    ADDRESSTOLINE ADDRESSTOSYMBOL DEMANGLE SHOWCERTIFICATE
    """.split()
)
"""Functions that know or do something that is not of the recordings. Not all that there are: the engine refuses too."""


class Relations(NamedTuple):
    """What a query may read, by the names after FROM. ``views``: alone. ``raw``: after ``raw.``."""

    views: Collection[str]
    raw: Collection[str]


def check_query(sql: str, dialect: QueryEngine, relations: Relations) -> frozenset[str]:
    """The views that a query reads. Raises QueryError if the text is not one query that only reads ``relations``,
    Unavailable without sqlglot."""
    try:
        import sqlglot
        from sqlglot import exp
    except ImportError:
        raise Unavailable("SQL needs sqlglot", remedy="pip install 'kvmscope[sql]'") from None
    try:
        statements = sqlglot.parse(sql, read=DIALECTS[dialect])
    except sqlglot.errors.SqlglotError as error:
        raise _not_understood(error, sql) from None
    if len(statements) != 1 or statements[0] is None:
        raise QueryError("one query at a time", query=sql)
    tree = statements[0]
    if not isinstance(tree, exp.Query | exp.Values):
        raise QueryError("recordings are only read: this is not a SELECT", query=sql, offset=_offset(tree))
    for node in tree.walk():
        _check_node(node, sql, exp)
    return _views_of(tree, sql, relations, exp)


def _check_node(node: Any, sql: str, exp: Any) -> None:
    if isinstance(node, exp.DML | exp.DDL | exp.Command | exp.Into) and not isinstance(node, exp.Query):
        raise QueryError("recordings are only read", query=sql, offset=_offset(node))
    if isinstance(node, exp.SettingsProperty) or node.args.get("settings") or node.args.get("format"):
        raise QueryError("a query sets nothing", query=sql, offset=_offset(node))
    if isinstance(node, exp.Func):
        name = _name(node)
        if name.upper().replace("_", "") in _NOT_HERE:
            raise QueryError(f"{name} is not a function of recordings", query=sql, offset=_offset(node))


_NOT_HERE: Final = frozenset(name.replace("_", "") for name in _OUTSIDE)


def _views_of(tree: Any, sql: str, relations: Relations, exp: Any) -> frozenset[str]:
    found = set()
    named = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Func):
            if _name(table.this).upper() not in _MAKERS:
                reason = f"{_name(table.this)} reads what is not of the recordings"
                raise QueryError(reason, query=sql, offset=_offset(table.this))
            continue
        _check_name(table, sql, named, relations)
        found |= {table.name.lower()} if not table.db else set()
    return frozenset(found & set(relations.views))


def _check_name(table: exp.Table, sql: str, named: Collection[str], relations: Relations) -> None:
    name, schema = table.name.lower(), table.db.lower()
    known = {RAW: relations.raw, "": {*relations.views, *named}}.get(schema, ()) if not table.catalog else ()
    if name not in known:
        typed = f"{schema}.{name}" if schema else name
        all_names = [*relations.views, *(f"{RAW}.{each}" for each in relations.raw)]
        near = tuple(difflib.get_close_matches(typed, [*all_names, *named], n=3))
        there = "" if near else f"; there are {', '.join(all_names)}"
        hint = f"; did you mean {', '.join(near)}?" if near else there
        raise QueryError(f"there is no relation {typed!r:.60}{hint}", query=sql, offset=_offset(table.this))


def _name(function: Any) -> str:
    """As it was typed, or as sqlglot calls it."""
    from sqlglot import exp

    return (
        str(function.name) if isinstance(function, exp.Anonymous | exp.AnonymousAggFunc) else str(function.sql_name())
    )


def _offset(node: Any) -> int | None:
    """Where the first thing of a tree stands whose place is known."""
    places: Iterator[int] = (part.meta["start"] for part in node.walk() if "start" in part.meta)
    return min(places, default=None)


def _not_understood(error: Any, sql: str) -> QueryError:
    found = (getattr(error, "errors", None) or [{}])[0]
    line, column = found.get("line"), found.get("col")
    reason = (
        f"it cannot be checked that this only reads: {found.get('description') or str(error).partition(chr(10))[0]}"
    )
    if not line or not column:
        return QueryError(reason)
    start = sum(len(each) + 1 for each in sql.split("\n")[: line - 1])
    return QueryError(reason, query=sql, offset=min(start + max(0, column - 1), len(sql)))
