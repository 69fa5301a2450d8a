"""Metrics and rules evaluated where the data is: resolved formulas as queries of other engines.

``tables``: the relations that queries read. ``refusal``: what an engine cannot express. ``fleet``: the interface of a
store of many hosts. For DuckDB and ClickHouse: ``relational``, the form that formulas are lowered to; ``windows`` and
``leaves``, its inputs; ``lower``, ``histograms`` and ``facts``, the formulas; ``queries`` and ``rules``, whole queries;
``printing``, their text. Tests compare whole queries with numpy: tests/engines/test_equality.py (generated formulas),
test_catalogue.py (metrics and rules) and test_windows.py. Elsewhere: the language of formulas (``formula``), its values
in numpy (``analysis.evaluate``), and the commands that run queries.
Rule: a query yields the same values as numpy, or the engine refuses it. Unknown is NULL, and so is a number that is not
finite.
docs/reference/engines.md lists for users what each engine can express.
"""

from __future__ import annotations
