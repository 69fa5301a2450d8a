"""Output of answers to a terminal, a pipe or a program: text that fits the width, in colour, or JSON."""
