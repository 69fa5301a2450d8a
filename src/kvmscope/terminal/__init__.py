"""Answers on their way to a terminal, a pipe or a program: text as wide as there is room, in colour, or as JSON."""
