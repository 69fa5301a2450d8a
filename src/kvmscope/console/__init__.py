"""What every front end needs from its process: signals, standard streams, the line of progress, its commands.

Nothing here knows VMs. Rule: ``interrupts`` and ``streams`` load only the standard library, since they stand before
click is imported; ``commands``, ``parameters`` and ``program`` are what click itself does not do.
"""
