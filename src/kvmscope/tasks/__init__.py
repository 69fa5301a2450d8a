"""The work of one command or request beyond a single look at the host: each module here returns views for one task.

Front ends call these and lay out the results. Rule: nothing here prints, and nothing here judges.
"""
