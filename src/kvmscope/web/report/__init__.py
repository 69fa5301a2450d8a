"""The page of ``kvmscope report``: one HTML file without outside assets.

``charts`` turns series into coordinates, ``page`` fills ``report.html.j2`` with them. Values and judgements come from
``view.report``.
"""
