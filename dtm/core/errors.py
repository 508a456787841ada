"""The root of every error that dtm raises on purpose.

Knows no exit codes, no wire and no terminal: whoever meets an error there translates it.
"""

from __future__ import annotations


class DtmError(Exception):
    """Says what was wanted, what was found and what to do; shown to a person as it is.

    An error that somebody must tell from the others is a subclass, and stands beside the code that raises it.
    """
