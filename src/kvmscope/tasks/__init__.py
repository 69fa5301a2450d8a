"""What one command or request reads of the host beyond a look: each module here answers one question with a view.

Faces call these and lay out what comes back. Rule: nothing here prints, and nothing here judges.
"""
