"""Formulas and rules as PromQL over the series that ``kvmscope serve`` exports, and the answers of PromQL stores.

``leaves``: one count over one window. ``columns``: the series of a stat. ``buckets``: quantiles and shares.
``printer``: whole formulas.
Rule: an unknown value is an absent sample. A query yields the values of ``analysis.evaluate``, or a refusal names it.
"""

from __future__ import annotations
