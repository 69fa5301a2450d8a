"""Process support for every front end: signals, standard streams, the progress line, commands.

Nothing here depends on VMs. Rule: ``interrupts`` and ``streams`` load only the standard library, since they run before
click is imported; ``commands``, ``parameters`` and ``program`` add what click lacks.
"""
