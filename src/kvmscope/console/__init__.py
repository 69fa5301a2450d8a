"""What every face asks of the process that it runs in: its signals and its standard streams.

Nothing here knows VMs. Rule: only the standard library is loaded, since this stands before click is imported.
"""
