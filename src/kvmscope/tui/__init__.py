"""``kvmscope top``: a live view of the host, with drill-down.

``pages`` makes lists of styled lines from views and does not access the terminal. ``board`` is the state that pages
show: the last view, its order, marked VMs, ended VMs. A thread (``sampler``, or ``player`` for a recording) reads and
hands over finished views; the terminal (``app``, ``canvas``, ``driver``) writes the lines that changed. Only these
three load Textual, after ``first_screen`` has drawn the first view.
Rule: nothing here does arithmetic on statistics or judges; nothing that draws reads or waits.
"""
