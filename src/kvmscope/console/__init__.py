"""What every face asks of the process that it runs in: signals, standard streams, the line of progress.

Nothing here knows VMs. Rule: only the standard library is loaded, since this stands before click is imported.
"""
