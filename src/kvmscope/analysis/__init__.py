"""What samples say: everything derived, computed when somebody looks, and pure.

``window``: two samples and what moved between them. ``plan``, ``evaluate``: formulas compiled to steps, and the steps
run over the words (``words``) of a window. ``status``: what the catalogue's metrics come to.
``histogram``: bucket bounds, and quantiles with their error bounds.
Unknown is NaN inside this room and None at its edge.
"""
