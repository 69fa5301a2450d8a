"""Metrics and rules where the data is: resolved formulas as queries of other engines.

``tables``: the relations that queries read. ``refusal``: what an engine cannot say. ``fleet``: what a store of many
hosts answers. For DuckDB and ClickHouse: ``relational``, the form that formulas are lowered to; ``windows`` and
``leaves``, what it starts from; ``lower``, ``histograms`` and ``facts``, the formulas; ``queries`` and ``rules``, whole
queries; ``printing``, their text. Tests compare them whole: tests/engines/test_equality.py (generated formulas),
test_catalogue.py (metrics and rules) and test_windows.py. Not here: the language of formulas (``formula``), its values
in numpy (``analysis.evaluate``), and the commands that run queries.
Rule: a query has the values of numpy or is not written. Unknown is NULL, and no number that is not finite is a value.
docs/reference/engines.md says for users what each engine can say.
"""

from __future__ import annotations
