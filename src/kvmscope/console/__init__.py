"""What every face asks of the process that it runs in: signals, standard streams, the line of progress, its commands.

Nothing here knows VMs. Rule: ``interrupts`` and ``streams`` load only the standard library, since they stand before
click is imported; ``commands``, ``parameters`` and ``program`` are what click itself does not do.
"""
