"""Formulas and rules as PromQL over the series that ``kvmscope serve`` exports, and answers of stores that speak it.

``leaves``: one count over one window. ``columns``: which series give a stat. ``buckets``: quantiles and shares.
``printer``: whole formulas.
Rule: an unknown value is an absent sample. A query gives the values of ``analysis.evaluate``, or it is refused by name.
"""

from __future__ import annotations
