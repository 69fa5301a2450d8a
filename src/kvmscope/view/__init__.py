"""Answers for people and programs as plain values, before they become text, JSON, a terminal screen or a page.

Rule: a view is made of scenes and windows; nothing here does I/O. Widths, colours and clocks are arguments. The lines
that ``text`` and its users make are plain text without colour; ``jsonout`` is the one writer of JSON.
"""
