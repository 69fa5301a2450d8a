"""Everything that is derived from samples: computed on demand, and pure.

``window``: two samples and what changed between them. ``plan``, ``evaluate``: formulas compiled to steps, and the steps
run over the words (``words``) of a window. ``status``: the values of the catalogue's metrics.
``histogram``: bucket bounds, and quantiles with their error bounds. Unknown is NaN inside this package and None outside
it.
"""
