"""What samples say: everything derived, computed when somebody looks, and pure.

``histogram``: bucket bounds, and quantiles with their error bounds.
Unknown is NaN inside this room and None at its edge.
"""
