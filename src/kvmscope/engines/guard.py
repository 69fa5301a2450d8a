"""The checks of a user's query: it may read the relations of the recordings and nothing else.

The second of two checks, on the whole tree, by another parser than the engine's own. Relations and table functions have
a list of allowed names; scalar functions, of which there are a thousand, a list of refused names. The engine refuses
what gets past these checks: DuckDB's doors are closed (``duckdb_store``). ClickHouse's queries are read-only, and the
functions that its own parser finds are checked too (``clickhouse``), since one of them reads files.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import zip_longest
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
"""Table functions whose rows depend on their arguments only."""

_OUTSIDE: Final = frozenset(
    """
    CURRENT_SETTING GETENV GETVARIABLE NEXTVAL CURRVAL WRITE_LOG QUERY QUERY_TABLE JSON_EXECUTE_SERIALIZED_SQL
    FILE FILECLUSTER URL S3 S3CLUSTER REMOTE REMOTESECURE HDFS MYSQL POSTGRESQL SQLITE ODBC JDBC MONGODB REDIS
    EXECUTABLE CLUSTER CLUSTERALLREPLICAS GCS AZUREBLOBSTORAGE DELTALAKE ICEBERG HUDI INPUT MERGE DICTIONARY PYTHON VIEW
    GETSETTING GETSERVERSETTING GETMERGETREESETTING GETSETTINGORDEFAULT GETSERVERPORT GETMACRO SHOWCERTIFICATE
    FILESYSTEMAVAILABLE FILESYSTEMCAPACITY FILESYSTEMUNRESERVED HOSTNAME FQDN DISPLAYNAME SERVERUUID TCPPORT
    GETOSKERNELVERSION UPTIME BUILDID TID QUERYID INITIALQUERYID CONNECTIONID ZOOKEEPERSESSIONUPTIME LOGTRACE
    CURRENTUSER USER SESSIONUSER AUTHENTICATEDUSER CURRENTPROFILES ENABLEDPROFILES DEFAULTPROFILES CURRENTROLES
    ENABLEDROLES DEFAULTROLES HASCOLUMNINTABLE SLEEP SLEEPEACHROW THROWIF CATBOOSTEVALUATE MODELEVALUATE
    NAIVEBAYESCLASSIFIER JOINGET JOINGETORNULL ADDRESSTOLINE ADDRESSTOLINEWITHINLINES ADDRESSTOSYMBOL DEMANGLE
    CURRENTQUERY TXIDCURRENT HASTABLEPRIVILEGE HASSCHEMAPRIVILEGE HASDATABASEPRIVILEGE PARSEDUCKDBLOGMESSAGE
    """.split()
)
"""Functions that read or do something outside the recordings. The list is not complete: the engine refuses too."""
_DICTIONARIES: Final = ("DICTGET", "DICTHAS", "DICTISIN", "AIGENERATE")
"""Prefixes of more such functions."""


logging.getLogger("sqlglot").addHandler(logging.NullHandler())  # its warnings become refusals here


class Relations(NamedTuple):
    """The relations that a query may read, by their names after FROM. ``views``: without a schema. ``raw``: after
    ``raw.``."""

    views: Collection[str]
    raw: Collection[str]


def check_query(sql: str, dialect: QueryEngine, relations: Relations) -> frozenset[str]:
    """The views that a query reads. Raises QueryError if the text is not one query that only reads ``relations``,
    Unavailable without sqlglot."""
    try:
        import sqlglot
        from sqlglot import exp
    except ModuleNotFoundError:
        raise Unavailable("SQL needs sqlglot", remedy="pip install 'kvmscope[sql]'") from None
    tokenize = partial(sqlglot.tokenize, read=DIALECTS[dialect])
    try:
        statements = sqlglot.parse(sql, read=DIALECTS[dialect])
    except sqlglot.errors.SqlglotError as error:
        raise _not_understood(error, sql, tokenize) from None
    if len(statements) != 1 or statements[0] is None:
        raise QueryError("one query at a time", query=sql, offset=_second(tokenize(sql)))
    tree = statements[0]
    if not isinstance(tree, exp.Query | exp.Values):
        raise QueryError("recordings are read-only: this is not a SELECT", query=sql, offset=query_start(sql))
    for node in tree.walk():
        _check_node(node, sql, exp)
    return _views_of(tree, sql, relations, exp)


def check_function(name: str, sql: str, offset: int | None) -> None:
    """Raises QueryError for a function that reads or does something outside the recordings."""
    plain = name.upper().replace("_", "")
    if plain in _NOT_HERE or plain.startswith(_DICTIONARIES):
        raise QueryError(f"{name} is not a function that queries may use", query=sql, offset=offset)


def _second(tokens: Sequence[Any]) -> int | None:
    """Offset of a second statement, or of the semicolon that ends the first."""
    kinds = [token.token_type.name for token in tokens]
    if "SEMICOLON" not in kinds:
        return None
    return int(tokens[min(kinds.index("SEMICOLON") + 1, len(tokens) - 1)].start)


def query_start(sql: str) -> int:
    """Offset of the first character that is not white space."""
    return len(sql) - len(sql.lstrip())


def _check_node(node: Any, sql: str, exp: Any) -> None:
    statements = (
        exp.DML | exp.DDL | exp.Command | exp.Into | exp.Describe | exp.Summarize | exp.Show | exp.Set | exp.Pragma
    )
    if isinstance(node, statements) and not isinstance(node, exp.Query):
        raise QueryError("recordings are read-only", query=sql, offset=_place(node, sql))
    if isinstance(node, exp.SettingsProperty) or node.args.get("settings") or node.args.get("format"):
        raise QueryError("a query may not change settings", query=sql, offset=_place(node, sql))
    if isinstance(node, exp.Placeholder | exp.Parameter):
        raise QueryError("a query has no parameters", query=sql, offset=_place(node, sql))
    if isinstance(node, exp.Func):
        check_function(_name(node), sql, _place(node, sql))


_NOT_HERE: Final = frozenset(name.replace("_", "") for name in _OUTSIDE)


def _views_of(tree: Any, sql: str, relations: Relations, exp: Any) -> frozenset[str]:
    found = set()
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Func):
            if _name(table.this).upper() not in _MAKERS:
                reason = f"{_name(table.this)} reads something outside the recordings"
                raise QueryError(reason, query=sql, offset=_place(table.this, sql))
            continue
        _check_name(table, sql, frozenset(_named_around(table, exp)), relations)
        found |= {table.name.lower()} if not table.db else set()
    return frozenset(found & set(relations.views))


def _named_around(table: exp.Table, exp: Any) -> Iterator[str]:
    """The names defined by WITH that a table can refer to: of all enclosing queries, and in its own WITH clause the
    earlier ones."""
    child: Any = table
    node: Any = table.parent
    while node is not None:
        if isinstance(node, exp.With):
            names = node.expressions
            place = next(at for at, cte in enumerate(names) if cte is child)
            yield from (cte.alias_or_name.lower() for cte in names[: place + bool(node.args.get("recursive"))])
        else:
            its = node.args.get("with_") or node.args.get("with")
            if its is not None and its is not child:
                yield from (cte.alias_or_name.lower() for cte in its.expressions)
        child, node = node, node.parent


def _check_name(table: exp.Table, sql: str, named: Collection[str], relations: Relations) -> None:
    name, schema = table.name.lower(), table.db.lower()
    known = {RAW: relations.raw, "": {*relations.views, *named}}.get(schema, ()) if not table.catalog else ()
    if name not in known:
        typed = f"{schema}.{name}" if schema else name
        all_names = [*relations.views, *(f"{RAW}.{each}" for each in relations.raw)]
        near = tuple(difflib.get_close_matches(typed, [*all_names, *named], n=3))
        there = "" if near else f"; there are {', '.join(all_names)}"
        hint = f"; did you mean {', '.join(near)}?" if near else there
        raise QueryError(f"there is no relation {typed!r:.60}{hint}", query=sql, offset=_place(table.this, sql))


def _name(function: Any) -> str:
    """The name of a function as typed, or else sqlglot's name."""
    from sqlglot import exp

    return (
        str(function.name) if isinstance(function, exp.Anonymous | exp.AnonymousAggFunc) else str(function.sql_name())
    )


def _offset(node: Any) -> int | None:
    """The offset of the first node of a tree with a known position."""
    places: Iterator[int] = (part.meta["start"] for part in node.walk() if "start" in part.meta)
    return min(places, default=None)


def _place(node: Any, sql: str) -> int:
    """The offset of a node, or else of an enclosing node, or else the start of the query."""
    found: int | None = _offset(node)
    while found is None and node.parent is not None:
        node = node.parent
        found = _offset(node)
    return query_start(sql) if found is None else found


def _not_understood(error: Any, sql: str, tokenize: Callable[[str], object]) -> QueryError:
    found = (getattr(error, "errors", None) or [{}])[0]
    line, column = found.get("line"), found.get("col")
    if not line or not column:
        reason = "a quotation or a comment is not closed"
        return QueryError(reason, query=sql, offset=_last_understood(sql, tokenize, type(error)))
    why = found.get("description") or str(error).partition("\n")[0]
    reason = f"it cannot be verified that this query only reads: {why}"
    start = sum(len(each) + 1 for each in sql.split("\n")[: line - 1])
    return QueryError(reason, query=sql, offset=min(start + max(0, column - 1), len(sql)))


def _last_understood(sql: str, tokenize: Callable[[str], object], refusal: type[Exception]) -> int:
    """The offset at which an unterminated token begins: no longer prefix of the query can be tokenized."""
    for size in range(len(sql) - 1, 0, -1):
        with suppress(refusal):
            tokenize(sql[:size])
            return size
    return 0


def call_place(function: str, sql: str, dialect: QueryEngine) -> int | None:
    """The offset of the call of a function, or of the operator that the engine turns into it; None unless there is
    exactly one. The query must be valid."""
    import sqlglot

    tokens = sqlglot.tokenize(sql, read=DIALECTS[dialect])
    signs = _OPERATORS.get(function, ())
    found = [
        token.start
        for token, following in zip_longest(tokens, tokens[1:])
        if token.token_type is not sqlglot.TokenType.STRING
        and (
            token.text.upper() in signs
            or (token.text.lower() == function.lower() and following is not None and following.text == "(")
        )
    ]
    return found[0] if len(found) == 1 else None


_OPERATORS: Final = {
    "plus": ("+",),
    "minus": ("-",),
    "multiply": ("*",),
    "divide": ("/",),
    "modulo": ("%",),
    "equals": ("=", "=="),
    "notEquals": ("!=", "<>"),
    "less": ("<",),
    "greater": (">",),
    "lessOrEquals": ("<=",),
    "greaterOrEquals": (">=",),
    "and": ("AND",),
    "or": ("OR",),
    "not": ("NOT",),
    "concat": ("||",),
    "like": ("LIKE",),
    "ilike": ("ILIKE",),
    "in": ("IN",),
    "arrayElement": ("[",),
}
"""Operators by the functions that ClickHouse turns them into."""
