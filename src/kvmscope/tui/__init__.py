"""``kvmscope top``: a live view of the host, with drill-down.

Pages are lists of styled lines, made from views and knowing no terminal (``pages``). ``board`` is what they show: the
last view, its order, what was marked, what ended. A thread reads (``sampler``, or ``player`` for a recording), and
hands over finished views; the terminal (``app``, ``canvas``, ``driver``) writes the lines that changed. Only these load
Textual, after ``first_screen`` has drawn the first view.
Rule: nothing here does arithmetic on statistics or judges; nothing that draws reads or waits.
"""
